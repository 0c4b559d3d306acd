//! A lot: the place of one number in the lot table, who lives there, and what that machine showed.
//!
//! A lot is a value: it is looked at, copied with a change, and set whole (`LotTable::set`). Its text is its line in the journal.

use std::fmt;

use crate::base::addr::Mac;

/// NICs of one machine, and boards that one number has seen retire.
pub const MACS_MAX: usize = 16;

/// A few MAC addresses, each once.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Macs {
    list: [Mac; MACS_MAX],
    len: u8,
}

impl Macs {
    /// The addresses, in the order in which they were added.
    pub fn as_slice(&self) -> &[Mac] {
        self.list.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Whether this address is among them.
    pub fn contains(&self, mac: Mac) -> bool {
        self.as_slice().contains(&mac)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// False when there is no room. One that is there already stays where it is.
    pub fn add(&mut self, mac: Mac) -> bool {
        if self.contains(mac) {
            return true;
        }
        let place = self.list.get_mut(usize::from(self.len));
        place.map(|place| *place = mac).map(|()| self.len += 1).is_some()
    }

    /// Adds one, forgetting the oldest where there is no room.
    pub fn push(&mut self, mac: Mac) {
        if !self.add(mac) {
            self.list.rotate_left(1);
            self.len -= 1;
            self.add(mac);
        }
    }

    /// Takes one out; one that is not there is no error.
    pub fn remove(&mut self, mac: Mac) {
        let kept = *self;
        *self = kept.as_slice().iter().copied().filter(|&other| other != mac).collect();
    }
}

/// Those that fit.
impl FromIterator<Mac> for Macs {
    fn from_iter<I: IntoIterator<Item = Mac>>(macs: I) -> Macs {
        macs.into_iter().fold(Macs::default(), |mut all, mac| {
            all.add(mac);
            all
        })
    }
}

/// `52:54:00:12:34:56,52:54:00:12:34:57`
impl fmt::Display for Macs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mac) in self.as_slice().iter().enumerate() {
            write!(f, "{}{mac}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Macs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A short word that a machine or a switch said of itself: printable ASCII without blanks; what else there was became `_`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Label {
    bytes: [u8; Label::MAX],
    len: u8,
}

impl Label {
    /// The longest label, in bytes.
    pub const MAX: usize = 32;

    /// The first 32 bytes of it.
    pub fn new(text: &[u8]) -> Label {
        let mut label = Label { bytes: [0; Label::MAX], len: text.len().min(Label::MAX) as u8 };
        let fits = |byte: u8| if byte.is_ascii_graphic() { byte } else { b'_' };
        label.bytes.iter_mut().zip(text).for_each(|(to, from)| *to = fits(*from));
        label
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads what [`QuotedLabel`] wrote.
    pub fn unquoted(text: &str) -> Label {
        let (mut bytes, mut len, mut rest) = ([0; Label::MAX], 0, text);
        while let (Some(to), Some(first)) = (bytes.get_mut(len), rest.as_bytes().first()) {
            let escape = ESCAPES.iter().find(|(_, escape)| rest.starts_with(escape));
            *to = escape.map_or(*first, |(byte, _)| *byte);
            len += 1;
            rest = rest.split_at_checked(escape.map_or(1, |(_, escape)| escape.len())).map_or("", |(_, rest)| rest);
        }
        Label::new(bytes.get(..len).unwrap_or_default())
    }
}

/// What has a meaning of its own in a line of the journal, and how it is written there: the `;` between events, and what escapes it.
const ESCAPES: [(u8, &str); 2] = [(b';', "%3B"), (b'%', "%25")];

/// A label as a word of a record.
#[derive(Clone, Copy)]
pub struct QuotedLabel(pub Label);

impl fmt::Display for QuotedLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain = self.0.as_str();
        while let Some(at) = plain.find([';', '%']) {
            let (before, from) = plain.split_at(at);
            let (first, rest) = from.split_at(1);
            f.write_str(before)?;
            f.write_str(ESCAPES.iter().find(|(byte, _)| first.as_bytes() == [*byte]).map_or(first, |(_, escape)| *escape))?;
            plain = rest;
        }
        f.write_str(plain)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A machine's UUID as its firmware tells it. Evidence to show: all-zero and shared ones are normal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// None for those that boards without one show.
    pub fn new(bytes: [u8; 16]) -> Option<Uuid> {
        let telling = bytes.iter().any(|&byte| byte != bytes[0]) && bytes != *b"\x03\0\x02\0\x04\0\x05\0\0\x06\0\x07\0\x08\0\x09";
        telling.then_some(Uuid(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if [4, 6, 8, 10].contains(&at) { "-" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Uuid {
    type Err = ();

    fn from_str(text: &str) -> Result<Uuid, ()> {
        let mut digits = text.bytes().filter(|&byte| byte != b'-');
        let mut uuid = Uuid([0; 16]);
        for byte in &mut uuid.0 {
            let pair = [digits.next().ok_or(())?, digits.next().ok_or(())?];
            let pair = std::str::from_utf8(&pair).map_err(|_| ())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        if digits.next().is_some() { Err(()) } else { Ok(uuid) }
    }
}

/// What a machine shows of itself. The MACs are its identity, the rest is evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// All NICs, the one that booted first.
    pub macs: Macs,
    /// SMBIOS's UUID, where the board has one.
    pub uuid: Option<Uuid>,
    /// The serial number, where the firmware has one.
    pub serial: Label,
    /// The switch port that its relay named (RFC 3046).
    pub port: Label,
}

/// ` macs=… uuid=… serial=… port=…`; what is empty is left out.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.macs.is_empty() {
            write!(f, " macs={}", self.macs)?;
        }
        if let Some(uuid) = self.uuid {
            write!(f, " uuid={uuid}")?;
        }
        for (key, label) in [("serial", self.serial), ("port", self.port)] {
            if !label.is_empty() {
                write!(f, " {key}={}", QuotedLabel(label))?;
            }
        }
        Ok(())
    }
}

/// For whom a lot is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The next machine that passes.
    Next,
    /// The machine with this MAC.
    Mac(Mac),
    /// Whomever the operator names: nobody gets it by himself.
    Operator,
}

/// What a number can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LotState {
    /// No machine has it.
    #[default]
    Vacant,
    /// It waits for a machine.
    Reserved(Wait),
    /// A machine has it.
    Occupied,
}

/// Who said that the machine lives here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AssignedBy {
    /// It passed muster.
    #[default]
    Passed,
    /// The operator gave it.
    Operator,
    /// A `[[node]]` section, which is its record; it is journalled only with what was learnt since. So many of the lot's MACs are the section's,
    /// and stand first.
    Config(u8),
}

impl AssignedBy {
    /// The word for it in the journal.
    pub const fn name(self) -> &'static str {
        match self {
            AssignedBy::Passed => "passed",
            AssignedBy::Operator => "operator",
            AssignedBy::Config(_) => "config",
        }
    }
}

/// All that is known of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Lot {
    /// Whether a machine has it.
    pub state: LotState,
    /// Who gave it to that machine.
    pub by: AssignedBy,
    /// What that machine showed of itself.
    pub fingerprint: Fingerprint,
    /// MACs of machines that lived here and were replaced: they are refused by name when they come back. The oldest are forgotten.
    pub retired: Macs,
    /// Since when the state is what it is, in seconds since 1970.
    pub since: u64,
    /// A machine that asked for a number was given this one, and has not been heard under its address since.
    pub unseen: bool,
}

impl Lot {
    /// Whether no machine has the number, and none is waited for.
    pub fn is_vacant(&self) -> bool {
        self.state == LotState::Vacant
    }

    /// Whether a machine has the number.
    pub fn is_occupied(&self) -> bool {
        self.state == LotState::Occupied
    }

    /// The lot with a machine in it.
    pub fn occupied(self, fingerprint: Fingerprint, by: AssignedBy, unix: u64) -> Lot {
        let retired = self.retired.as_slice().iter().copied().filter(|&mac| !fingerprint.macs.contains(mac)).collect();
        Lot { state: LotState::Occupied, by, fingerprint, retired, since: unix, unseen: false }
    }

    /// The lot with its machine gone for good, kept for another one.
    pub fn reserved(self, wait: Wait, unix: u64) -> Lot {
        let gone = self.emptied(unix);
        let mut lot = Lot { state: LotState::Reserved(wait), by: AssignedBy::Operator, ..gone };
        if let Wait::Mac(mac) = wait {
            lot.retired.remove(mac);
        }
        lot
    }

    /// The lot with its machine gone for good.
    pub fn emptied(self, unix: u64) -> Lot {
        let mut retired = self.retired;
        self.fingerprint.macs.as_slice().iter().for_each(|&mac| retired.push(mac));
        Lot { retired, since: unix, ..Lot::default() }
    }
}

/// As in the journal: `occupied by=passed up=never macs=… uuid=… serial=… port=… retired=…`; what is empty is left out.
impl fmt::Display for Lot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            LotState::Vacant => f.write_str("vacant")?,
            LotState::Reserved(Wait::Next) => f.write_str("reserved for=next")?,
            LotState::Reserved(Wait::Operator) => f.write_str("reserved for=operator")?,
            LotState::Reserved(Wait::Mac(mac)) => write!(f, "reserved for={mac}")?,
            LotState::Occupied => match self.by {
                AssignedBy::Config(macs) => write!(f, "occupied by=config configured={macs}")?,
                by => write!(f, "occupied by={}", by.name())?,
            },
        }
        if self.unseen {
            f.write_str(" up=never")?;
        }
        self.fingerprint.fmt(f)?;
        if !self.retired.is_empty() {
            write!(f, " retired={}", self.retired)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    #[test]
    fn lists_hold_each_once_and_forget_the_oldest() {
        let mut macs: Macs = (1..=16).map(mac).collect();
        assert!(macs.len() == 16 && macs.add(mac(3)) && !macs.add(mac(17)) && macs.len() == 16);
        macs.push(mac(17));
        assert!(!macs.contains(mac(1)) && macs.contains(mac(17)) && macs.as_slice()[0] == mac(2));
        macs.remove(mac(2));
        assert!(macs.len() == 15 && macs.as_slice()[0] == mac(3));
    }

    #[test]
    fn a_machine_that_leaves_is_remembered_until_it_comes_back() {
        let fingerprint = Fingerprint { macs: [mac(1), mac(2)].into_iter().collect(), ..Fingerprint::default() };
        let lot = Lot::default().occupied(fingerprint, AssignedBy::Passed, 5);
        let kept = lot.reserved(Wait::Next, 6);
        assert!(kept.fingerprint == Fingerprint::default() && kept.retired.contains(mac(1)) && kept.retired.contains(mac(2)));
        let back = kept.occupied(Fingerprint { macs: [mac(2), mac(3)].into_iter().collect(), ..fingerprint }, AssignedBy::Passed, 7);
        assert_eq!((back.retired.as_slice(), back.since), ([mac(1)].as_slice(), 7));
        assert_eq!(back.to_string(), "occupied by=passed macs=02:00:00:00:00:02,02:00:00:00:00:03 retired=02:00:00:00:00:01");
        assert!(lot.reserved(Wait::Mac(mac(2)), 8).retired.as_slice() == [mac(1)]);
    }

    #[test]
    fn evidence_that_tells_nothing_is_none() {
        assert_eq!((Uuid::new([0; 16]), Uuid::new([0xff; 16])), (None, None));
        let uuid = Uuid::new(*b"\x4c\x4c\x45\x44\0\x30\x31\x10\x80\x33\xb2\xc0\x4f\x30\x31\x32").unwrap();
        assert_eq!((uuid.to_string().parse(), uuid.to_string().as_str()), (Ok(uuid), "4c4c4544-0030-3110-8033-b2c04f303132"));
        assert_eq!(Label::new(b"To be\nfilled=\xff").as_str(), "To_be_filled=_");
    }
}
