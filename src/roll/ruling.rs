//! What a report of a machine comes to: the table by which numbers are given. Pure.
//!
//! A machine is who its MACs say it is. UUID and serial never make it one; but a report is only what somebody says. One that names a MAC of a
//! node changes what is known of the node, and may bring it new MACs, where evidence of the node comes with it: the frame came from one of the
//! node's own MACs, or the UUID and serial number that the node is known by are shown as well. Otherwise, or where a MAC of a node turns up on
//! what may be another machine by all else, that is reported as a conflict and nothing is changed.
//!
//! | names MACs of | and unknown ones | evidence | ruling |
//! |---|---|---|---|
//! | two nodes | | | conflict |
//! | one node | yes | none; or a MAC of the node is missing, or its UUID or serial differs | conflict |
//! | one node | yes | of the node | learn, if the test was passed |
//! | one node | no | of the node | learn what is new, if the test was passed |
//! | one node | no | none | known |
//! | no node | | | a number, or a guest: by the verdict, the config and the operator's word |

use std::fmt;

use crate::base::addr::Mac;

use super::client::Arrival;
use super::journal::Verdict;
use super::lot::{AssignedBy, Fingerprint, Label, Lot};
use super::lot_table::LotTable;
use super::plan::Number;

/// How machines that pass get a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Numbering {
    /// At once: the lowest vacant lot.
    #[default]
    Automatic,
    /// They are held as guests until the operator numbers them together.
    Ordered,
    /// Not at all: strangers stay guests.
    Locked,
}

/// The name in the config.
impl fmt::Display for Numbering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Numbering::Automatic => "automatic",
            Numbering::Ordered => "ordered",
            Numbering::Locked => "locked",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It gets this number, which was vacant or kept for it.
    Enlist(Number),
    /// It is this node, and showed what was not known of it yet.
    Learn(Number),
    /// It is this node.
    Known(Number),
    Guest(Reason),
}

/// Why a machine stays a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Untested,
    Failed(Label),
    /// `ignore` names it.
    Ignored,
    /// It was this node until it was taken out.
    Retired(Number),
    Conflict(Conflict),
    /// It waits for the operator.
    Held,
    Locked,
    /// No lot is vacant on its network.
    NoLot,
}

/// Two sides that claim the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Its MACs live in two lots.
    TwoNodes(Number, Number),
    /// It shows this MAC of the node, beside this one that the node is not known to have, and may be another machine.
    Cloned(Number, Mac, Mac),
}

/// As the log says it, after the machine's name.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Untested => f.write_str("not tested"),
            Reason::Failed(test) => write!(f, "failed test {test}"),
            Reason::Ignored => f.write_str("ignored by cluster.ignore"),
            Reason::Retired(number) => write!(f, "was {number} until it was taken out or replaced (muster guest enlist)"),
            Reason::Conflict(conflict) => conflict.fmt(f),
            Reason::Held => f.write_str("passed, waits for its number (muster guest enlist)"),
            Reason::Locked => f.write_str("passed, but numbering is locked (muster guest enlist)"),
            Reason::NoLot => f.write_str("passed, but no number is vacant on its network (raise cluster.nodes, or muster node out)"),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conflict::TwoNodes(a, b) => write!(f, "reports MAC addresses of both {a} and {b} (assign them with muster node set)"),
            Conflict::Cloned(number, mac, other) => {
                write!(f, "reports {mac} of {number} and {other} of no node, so it may be another machine ")?;
                write!(f, "(if it is {number}: muster node set {number} --add {other})")
            }
        }
    }
}

/// What counts beside the report.
pub struct RulingView<'a> {
    pub lots: &'a LotTable,
    pub numbering: Numbering,
    pub ignored: bool,
    /// By which way the report came, and in whose name: evidence, where a machine speaks for itself.
    pub way: Arrival,
    pub mac: Mac,
    /// A bit for each number that is not to be given now, 64 in a word; none where the slice ends.
    pub spoken_for: &'a [u64],
}

/// Rules on a machine that shows `fingerprint`, on a network whose numbers are in `ranges`. `word`: the operator said that it shall have a number.
pub fn rule(
    view: &RulingView<'_>,
    fingerprint: &Fingerprint,
    verdict: Verdict,
    ranges: impl Iterator<Item = (Number, Number)> + Clone,
    word: bool,
) -> Ruling {
    let lots = view.lots;
    let within = |number: Number| ranges.clone().any(|(first, last)| (first..=last).contains(&number));
    let mut owners = fingerprint.macs.as_slice().iter().filter_map(|mac| Some((*mac, lots.number_of(*mac)?)));
    if let Some((mac, number)) = owners.next() {
        let known = lots.lot(number).copied().unwrap_or_default();
        let unknown = fingerprint.macs.as_slice().iter().find(|mac| !known.fingerprint.macs.contains(**mac));
        let evident = evident(&known.fingerprint, fingerprint, view, within(number));
        let doubtful = |_: &&Mac| !evident || differs(&known.fingerprint, fingerprint);
        return match (owners.find(|&(_, other)| other != number), unknown.filter(doubtful)) {
            (Some((_, other)), _) => Ruling::Guest(Reason::Conflict(Conflict::TwoNodes(number, other))),
            (None, Some(other)) => Ruling::Guest(Reason::Conflict(Conflict::Cloned(number, mac, *other))),
            (None, None) if verdict == Verdict::Passed && evident && learnt(&known, fingerprint).fingerprint != known.fingerprint => {
                Ruling::Learn(number)
            }
            (None, None) => Ruling::Known(number),
        };
    }
    let free = |number: Number| view.spoken_for.get(number.0 as usize / 64).is_none_or(|word| word >> (number.0 % 64) & 1 == 0);
    let retired = fingerprint.macs.as_slice().iter().find_map(|mac| lots.retired_from(*mac));
    let waiting = || lots.waiting_for(&fingerprint.macs, |number| within(number) && free(number));
    let vacant = || lots.lowest_vacant(ranges.clone(), view.spoken_for);
    match (verdict, retired) {
        _ if word => waiting().or_else(vacant).map_or(Ruling::Guest(Reason::NoLot), Ruling::Enlist),
        (Verdict::Failed(test), _) => Ruling::Guest(Reason::Failed(test)),
        (Verdict::Untested, _) => Ruling::Guest(Reason::Untested),
        _ if view.ignored => Ruling::Guest(Reason::Ignored),
        (_, Some(number)) => Ruling::Guest(Reason::Retired(number)),
        (Verdict::Passed, None) => match (waiting(), view.numbering) {
            (Some(number), _) => Ruling::Enlist(number),
            (None, Numbering::Ordered) => Ruling::Guest(Reason::Held),
            (None, Numbering::Locked) => Ruling::Guest(Reason::Locked),
            (None, Numbering::Automatic) => vacant().map_or(Ruling::Guest(Reason::NoLot), Ruling::Enlist),
        },
    }
}

/// Whether a report comes with evidence of a node. A relay's word counts where the node is at home behind it and is known by nothing else yet.
fn evident(known: &Fingerprint, shown: &Fingerprint, view: &RulingView<'_>, at_home: bool) -> bool {
    let told = known.uuid.is_some() || !known.serial.is_empty();
    let uuid = known.uuid.is_none() || known.uuid == shown.uuid;
    let serial = known.serial.is_empty() || known.serial == shown.serial;
    let own = match view.way {
        Arrival::Own => known.macs.contains(view.mac),
        Arrival::Relayed => known.macs.contains(view.mac) && at_home && !told,
        Arrival::Through(_) | Arrival::Unseen | Arrival::Unknown => false,
    };
    own || told && uuid && serial
}

/// Whether a report that brings a node unknown MACs may be of another machine: others that are known are missing, or the evidence is not the
/// node's. A NIC was carried there, or a MAC is on two machines.
fn differs(known: &Fingerprint, shown: &Fingerprint) -> bool {
    let misses = known.macs.as_slice().iter().any(|mac| !shown.macs.contains(*mac));
    let uuid = known.uuid.is_some() && shown.uuid.is_some() && known.uuid != shown.uuid;
    let serial = !known.serial.is_empty() && !shown.serial.is_empty() && known.serial != shown.serial;
    misses || uuid || serial
}

/// A node's lot with what its machine showed: more NICs, and the evidence of today.
pub fn learnt(lot: &Lot, fingerprint: &Fingerprint) -> Lot {
    let mut learnt = *lot;
    for mac in fingerprint.macs.as_slice() {
        learnt.fingerprint.macs.add(*mac);
    }
    learnt.fingerprint.uuid = fingerprint.uuid.or(lot.fingerprint.uuid);
    if !fingerprint.serial.is_empty() {
        learnt.fingerprint.serial = fingerprint.serial;
    }
    if !fingerprint.port.is_empty() {
        learnt.fingerprint.port = fingerprint.port;
    }
    learnt.retired = lot.retired.as_slice().iter().copied().filter(|mac| !learnt.fingerprint.macs.contains(*mac)).collect();
    learnt
}

/// The lot of a machine that was just given its number.
pub fn enlisted(lot: &Lot, fingerprint: &Fingerprint, by: AssignedBy, unix: u64) -> Lot {
    Lot { unseen: true, ..lot.occupied(*fingerprint, by, unix) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::roll::lot::{Uuid, Wait};

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn fingerprint(macs: &[u8], uuid: u8) -> Fingerprint {
        let mut bytes = [7; 16];
        bytes[0] = uuid;
        Fingerprint { macs: macs.iter().map(|&n| mac(n)).collect(), uuid: Uuid::new(bytes).filter(|_| uuid != 0), ..Fingerprint::default() }
    }

    /// n0 is machine 1 with MACs 1 and 2; n1 was machine 5, and waits for the next; n2 is MAC 9, by the config.
    fn lots(waits: bool) -> LotTable {
        let mut lots = LotTable::new(8, 1);
        let mut set = |n, lot| lots.set(Number(n), lot).unwrap();
        set(0, Lot::default().occupied(fingerprint(&[1, 2], 1), AssignedBy::Passed, 1));
        let gone = Lot::default().occupied(fingerprint(&[5], 5), AssignedBy::Passed, 1);
        set(1, if waits { gone.reserved(Wait::Next, 2) } else { gone.emptied(2) });
        set(2, Lot::default().occupied(fingerprint(&[9], 0), AssignedBy::Config(1), 1));
        lots
    }

    type Sender = (Arrival, Mac);

    fn from(n: u8) -> Sender {
        (Arrival::Own, mac(n))
    }

    fn relayed(n: u8) -> Sender {
        (Arrival::Relayed, mac(n))
    }

    /// In the name of this MAC, in somebody's frame.
    fn forged(n: u8) -> Sender {
        (Arrival::Through(mac(99)), mac(n))
    }

    fn ruled(
        lots: &LotTable,
        numbering: Numbering,
        ignored: bool,
        shown: &Fingerprint,
        sender: Sender,
        verdict: Verdict,
        word: bool,
    ) -> Ruling {
        let view = RulingView { lots, numbering, ignored, way: sender.0, mac: sender.1, spoken_for: &[] };
        rule(&view, shown, verdict, [(Number(0), Number(5))].into_iter(), word)
    }

    /// Machines that name no node.
    #[test]
    fn who_gets_a_number() {
        use Numbering::{Automatic, Locked, Ordered};
        use Ruling::{Enlist, Guest};
        let (passed, failed) = (Verdict::Passed, Verdict::Failed(Label::new(b"disk")));
        let (n1, n3) = (Number(1), Number(3));
        let rows = [
            // waits, numbering, ignored, MAC, verdict, word -> ruling
            (false, Automatic, false, 20, passed, false, Enlist(n1)),
            (true, Automatic, false, 20, passed, false, Enlist(n1)),
            (true, Locked, false, 20, passed, false, Enlist(n1)),
            (false, Locked, false, 20, passed, false, Guest(Reason::Locked)),
            (false, Locked, false, 20, passed, true, Enlist(n1)),
            (false, Ordered, false, 20, passed, false, Guest(Reason::Held)),
            (false, Ordered, false, 20, passed, true, Enlist(n1)),
            (false, Automatic, true, 20, passed, false, Guest(Reason::Ignored)),
            (false, Automatic, true, 20, passed, true, Enlist(n1)),
            (false, Automatic, false, 20, failed, false, Guest(Reason::Failed(Label::new(b"disk")))),
            (true, Automatic, false, 20, failed, false, Guest(Reason::Failed(Label::new(b"disk")))),
            (false, Automatic, false, 20, failed, true, Enlist(n1)),
            (false, Automatic, false, 20, Verdict::Untested, false, Guest(Reason::Untested)),
            (false, Automatic, false, 20, Verdict::Untested, true, Enlist(n1)),
            (false, Automatic, false, 5, passed, false, Guest(Reason::Retired(n1))),
            (true, Automatic, false, 5, passed, false, Guest(Reason::Retired(n1))),
            (true, Automatic, false, 5, passed, true, Enlist(n1)),
        ];
        for (waits, numbering, ignored, mac, verdict, word, ruling) in rows {
            let (lots, shown) = (lots(waits), fingerprint(&[mac], mac));
            for sender in [from(mac), relayed(mac), forged(1)] {
                let now = ruled(&lots, numbering, ignored, &shown, sender, verdict, word);
                assert_eq!(now, ruling, "{mac} {verdict} {numbering} {word} {sender:?}");
            }
        }
        let elsewhere = |first, last, spoken_for: &[u64]| {
            let lots = lots(true);
            let view = RulingView { lots: &lots, numbering: Automatic, ignored: false, way: Arrival::Own, mac: mac(20), spoken_for };
            rule(&view, &fingerprint(&[20], 20), passed, [(Number(first), Number(last))].into_iter(), false)
        };
        assert_eq!((elsewhere(2, 7, &[]), elsewhere(2, 2, &[])), (Enlist(n3), Guest(Reason::NoLot)));
        assert_eq!(elsewhere(0, 7, &[0b10]), Enlist(n3), "n1 waits, and was offered to another");
        assert_eq!((elsewhere(0, 7, &[0b1010]), elsewhere(0, 3, &[0b1010])), (Enlist(Number(4)), Guest(Reason::NoLot)));
    }

    /// Machines that name a node: n0 is MACs 1 and 2 and has a UUID, n2 is MAC 9 and has none, n6 is MAC 60 elsewhere and has none.
    #[test]
    fn who_names_a_node() {
        use Ruling::{Guest, Known, Learn};
        let (passed, failed) = (Verdict::Passed, Verdict::Failed(Label::new(b"disk")));
        let (n0, n2, n6) = (Number(0), Number(2), Number(6));
        let cloned = |number, shown, other| Guest(Reason::Conflict(Conflict::Cloned(number, mac(shown), mac(other))));
        let rows = [
            // MACs, UUID, sender, verdict -> ruling
            (&[1, 2][..], 1, from(1), passed, Known(n0)),
            (&[2], 1, from(2), passed, Known(n0)),
            (&[1], 0, from(1), passed, Known(n0)),
            // A new NIC, which it boots from or not.
            (&[1, 2, 3], 1, from(1), passed, Learn(n0)),
            (&[3, 1, 2], 1, from(3), passed, Learn(n0)),
            (&[3, 1, 2], 1, relayed(3), passed, Learn(n0)),
            (&[3, 1, 2], 1, forged(1), passed, Learn(n0)),
            (&[1, 2, 3], 0, from(1), passed, Learn(n0)),
            (&[1, 2, 3], 1, from(1), failed, Known(n0)),
            // The same, and nothing of the node comes with it: whoever says that.
            (&[3, 1, 2], 0, from(3), passed, cloned(n0, 1, 3)),
            (&[1, 2, 3], 0, forged(1), passed, cloned(n0, 1, 3)),
            (&[1, 2, 3], 0, relayed(1), passed, cloned(n0, 1, 3)),
            (&[3, 1, 2], 0, from(3), failed, cloned(n0, 1, 3)),
            // A MAC of it is missing, or its UUID differs: one NIC went into another machine, or is there twice.
            (&[1, 30], 30, from(1), passed, cloned(n0, 1, 30)),
            (&[1, 30], 0, from(1), passed, cloned(n0, 1, 30)),
            (&[1, 30], 1, from(1), passed, cloned(n0, 1, 30)),
            (&[30, 1], 1, from(30), passed, cloned(n0, 1, 30)),
            (&[1, 2, 30], 30, from(1), passed, cloned(n0, 1, 30)),
            (&[30, 1, 2], 30, from(30), passed, cloned(n0, 1, 30)),
            // The board was replaced, and all NICs were kept; that is believed from the NICs themselves.
            (&[1, 2], 6, from(2), passed, Learn(n0)),
            (&[1, 2], 6, from(1), failed, Known(n0)),
            (&[1, 2], 6, forged(1), passed, Known(n0)),
            (&[1, 2], 6, relayed(1), passed, Known(n0)),
            // A node that is known by its MAC alone.
            (&[9], 9, from(9), passed, Learn(n2)),
            (&[9], 9, forged(9), passed, Known(n2)),
            (&[9, 30], 30, from(9), passed, Learn(n2)),
            (&[30, 9], 30, from(30), passed, cloned(n2, 9, 30)),
            (&[30, 9], 0, from(30), passed, cloned(n2, 9, 30)),
            (&[9, 30], 30, forged(9), passed, cloned(n2, 9, 30)),
            // A relay's word on one that lives behind it, and on one that does not.
            (&[9, 30], 30, relayed(9), passed, Learn(n2)),
            (&[30, 9], 30, relayed(30), passed, cloned(n2, 9, 30)),
            (&[60, 30], 30, relayed(60), passed, cloned(n6, 60, 30)),
            (&[60], 30, relayed(60), passed, Known(n6)),
            (&[60, 30], 30, from(60), passed, Learn(n6)),
            (&[1, 9], 1, from(1), passed, Guest(Reason::Conflict(Conflict::TwoNodes(n0, n2)))),
            (&[1, 9, 30], 1, from(1), failed, Guest(Reason::Conflict(Conflict::TwoNodes(n0, n2)))),
        ];
        let mut lots = lots(false);
        lots.set(n6, Lot::default().occupied(fingerprint(&[60], 0), AssignedBy::Operator, 1)).unwrap();
        for (macs, uuid, sender, verdict, ruling) in rows {
            for (numbering, word) in [(Numbering::Automatic, false), (Numbering::Locked, false), (Numbering::Ordered, true)] {
                let now = ruled(&lots, numbering, false, &fingerprint(macs, uuid), sender, verdict, word);
                assert_eq!(now, ruling, "{macs:?} {uuid} {verdict} {sender:?}");
            }
        }
    }

    /// What a serial number proves, and what it does not: all that a node is known by has to be there.
    #[test]
    fn all_evidence_counts() {
        let shown = |uuid, serial: &[u8]| Fingerprint { serial: Label::new(serial), ..fingerprint(&[30, 1, 2], uuid) };
        let known = |uuid, serial: &[u8]| Fingerprint { serial: Label::new(serial), ..fingerprint(&[1, 2], uuid) };
        let rows = [
            // known, shown -> evident
            ((1, &b"A"[..]), (1, &b"A"[..]), true),
            ((1, b"A"), (1, b""), false),
            ((1, b"A"), (0, b"A"), false),
            ((1, b"A"), (1, b"B"), false),
            ((0, b"A"), (7, b"A"), true),
            ((1, b""), (1, b"X"), true),
            ((0, b""), (0, b""), false),
            ((0, b""), (1, b"A"), false),
        ];
        let lots = lots(false);
        let view =
            |n| RulingView { lots: &lots, numbering: Numbering::Locked, ignored: false, way: Arrival::Own, mac: mac(n), spoken_for: &[] };
        for ((uuid, serial), (shown_uuid, shown_serial), proved) in rows {
            let (known, shown) = (known(uuid, serial), shown(shown_uuid, shown_serial));
            assert_eq!(evident(&known, &shown, &view(30), true), proved, "{known:?} {shown:?}");
            assert!(evident(&known, &shown, &view(1), true));
        }
    }

    #[test]
    fn a_conflict_names_both() {
        let told = Conflict::Cloned(Number(7), mac(1), mac(30)).to_string();
        assert!(
            ["02:00:00:00:00:01 of n7", "02:00:00:00:00:1e of no node", "muster node set n7 --add"].iter().all(|part| told.contains(part)),
            "{told}"
        );
    }
}
