//! What a report of a machine comes to: the table by which numbers are given. Pure.
//!
//! A machine is who its MACs say it is. UUID and serial never make it one; but where a MAC of a node turns up beside MACs that are not known,
//! on what may be another machine by all else, that is told as a conflict and nothing is changed.

use std::fmt;

use super::journal::Verdict;
use super::lot::{By, Label, Lot, Papers};
use super::plan::Number;
use super::street::Street;

/// How strangers that pass come to a number.
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
    /// A MAC of this node is on what may be another machine.
    Cloned(Number),
}

/// As the log says it, after the machine's name.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Untested => f.write_str("was not tested"),
            Reason::Failed(test) => write!(f, "failed the test {test}"),
            Reason::Ignored => f.write_str("is to be ignored, says the config"),
            Reason::Retired(number) => write!(f, "was {number} until it was taken out (muster guest enlist takes it back)"),
            Reason::Conflict(conflict) => conflict.fmt(f),
            Reason::Held => f.write_str("passed, and waits to be numbered (muster guest enlist)"),
            Reason::Locked => f.write_str("passed, but numbering is locked (muster guest enlist)"),
            Reason::NoLot => f.write_str("passed, but no number is vacant on its network (raise cluster.nodes, or muster node out)"),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conflict::TwoNodes(a, b) => write!(f, "shows MACs of both {a} and {b} (muster node set settles it)"),
            Conflict::Cloned(number) => {
                write!(f, "shows a MAC of {number} beside unknown ones, and may be another machine (muster node set settles it)")
            }
        }
    }
}

/// What counts beside the report.
pub struct View<'a> {
    pub street: &'a Street,
    pub numbering: Numbering,
    pub ignored: bool,
}

/// Rules on a machine that shows `papers`, on a network whose numbers are in `ranges`. `word`: the operator said that it shall have a number.
pub fn rule(
    view: &View<'_>,
    papers: &Papers,
    verdict: Verdict,
    ranges: impl Iterator<Item = (Number, Number)> + Clone,
    word: bool,
) -> Ruling {
    let street = view.street;
    let mut owners = papers.macs.as_slice().iter().filter_map(|mac| street.number_of(*mac));
    if let Some(number) = owners.next() {
        let known = street.lot(number).copied().unwrap_or_default();
        return match owners.find(|&other| other != number) {
            Some(other) => Ruling::Guest(Reason::Conflict(Conflict::TwoNodes(number, other))),
            None if cloned(&known.papers, papers) => Ruling::Guest(Reason::Conflict(Conflict::Cloned(number))),
            None if verdict == Verdict::Passed && learnt(&known, papers).papers != known.papers => Ruling::Learn(number),
            None => Ruling::Known(number),
        };
    }
    let within = |number: Number| ranges.clone().any(|(first, last)| (first..=last).contains(&number));
    let retired = papers.macs.as_slice().iter().find_map(|mac| street.retired_from(*mac));
    let waiting = || street.waiting_for(&papers.macs, within);
    let vacant = || street.lowest_vacant(ranges.clone());
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

/// Whether a report that shares a MAC with a node may be of another machine: it brings MACs that are not known, while others that are known
/// are missing, or other evidence than the node's. A NIC was carried there, or a MAC is on two machines.
fn cloned(known: &Papers, shown: &Papers) -> bool {
    let brings = shown.macs.as_slice().iter().any(|mac| !known.macs.contains(*mac));
    let misses = known.macs.as_slice().iter().any(|mac| !shown.macs.contains(*mac));
    let uuid = known.uuid.is_some() && shown.uuid.is_some() && known.uuid != shown.uuid;
    let serial = !known.serial.is_empty() && !shown.serial.is_empty() && known.serial != shown.serial;
    brings && (misses || uuid || serial)
}

/// A node's lot with what its machine showed: more NICs, and the evidence of today.
pub fn learnt(lot: &Lot, papers: &Papers) -> Lot {
    let mut learnt = *lot;
    for mac in papers.macs.as_slice() {
        learnt.papers.macs.add(*mac);
    }
    learnt.papers.uuid = papers.uuid.or(lot.papers.uuid);
    if !papers.serial.is_empty() {
        learnt.papers.serial = papers.serial;
    }
    if !papers.port.is_empty() {
        learnt.papers.port = papers.port;
    }
    learnt.retired = lot.retired.as_slice().iter().copied().filter(|mac| !learnt.papers.macs.contains(*mac)).collect();
    learnt
}

/// The lot of a machine that was just given its number.
pub fn enlisted(lot: &Lot, papers: &Papers, word: bool, unix: u64) -> Lot {
    lot.occupied(*papers, if word { By::Operator } else { By::Passed }, unix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::roll::lot::{Uuid, Wait};

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn papers(macs: &[u8], uuid: u8) -> Papers {
        let mut bytes = [7; 16];
        bytes[0] = uuid;
        Papers { macs: macs.iter().map(|&n| mac(n)).collect(), uuid: Uuid::new(bytes).filter(|_| uuid != 0), ..Papers::default() }
    }

    /// n0 is machine 1 with MACs 1 and 2; n1 was machine 5, and waits for the next; n2 is MAC 9, by the config.
    fn street(waits: bool) -> Street {
        let mut street = Street::new(8, 1);
        let mut set = |n, lot| street.set(Number(n), lot).unwrap();
        set(0, Lot::default().occupied(papers(&[1, 2], 1), By::Passed, 1));
        let gone = Lot::default().occupied(papers(&[5], 5), By::Passed, 1);
        set(1, if waits { gone.reserved(Wait::Next, 2) } else { gone.emptied(2) });
        set(2, Lot::default().occupied(papers(&[9], 0), By::Config(1), 1));
        street
    }

    #[test]
    fn the_table() {
        use Numbering::{Automatic, Locked, Ordered};
        use Ruling::{Enlist, Guest, Known, Learn};
        let (passed, failed) = (Verdict::Passed, Verdict::Failed(Label::new(b"disk")));
        let (n0, n1, n2, n3) = (Number(0), Number(1), Number(2), Number(3));
        let rows = [
            // waits, numbering, ignored, MACs, UUID, verdict, word -> ruling
            (false, Automatic, false, &[20][..], 20, passed, false, Enlist(n1)),
            (true, Automatic, false, &[20], 20, passed, false, Enlist(n1)),
            (true, Locked, false, &[20], 20, passed, false, Enlist(n1)),
            (false, Locked, false, &[20], 20, passed, false, Guest(Reason::Locked)),
            (false, Ordered, false, &[20], 20, passed, false, Guest(Reason::Held)),
            (false, Ordered, false, &[20], 20, passed, true, Enlist(n1)),
            (false, Automatic, true, &[20], 20, passed, false, Guest(Reason::Ignored)),
            (false, Automatic, true, &[20], 20, passed, true, Enlist(n1)),
            (false, Automatic, false, &[20], 20, failed, false, Guest(Reason::Failed(Label::new(b"disk")))),
            (true, Automatic, false, &[20], 20, failed, false, Guest(Reason::Failed(Label::new(b"disk")))),
            (false, Automatic, false, &[20], 20, Verdict::Untested, false, Guest(Reason::Untested)),
            (false, Automatic, false, &[5], 5, passed, false, Guest(Reason::Retired(n1))),
            (true, Automatic, false, &[5], 5, passed, false, Guest(Reason::Retired(n1))),
            (false, Automatic, false, &[1, 2], 1, passed, false, Known(n0)),
            (false, Automatic, false, &[1, 2, 3], 1, passed, false, Learn(n0)),
            (false, Automatic, false, &[1, 2, 3], 1, failed, false, Known(n0)),
            (false, Locked, false, &[1], 1, passed, false, Known(n0)),
            // The board was replaced, and all NICs were kept; one NIC went into another machine; a machine without evidence.
            (false, Automatic, false, &[1, 2], 6, passed, false, Learn(n0)),
            (false, Automatic, false, &[1, 30], 30, passed, false, Guest(Reason::Conflict(Conflict::Cloned(n0)))),
            (false, Automatic, false, &[1, 30], 0, passed, false, Guest(Reason::Conflict(Conflict::Cloned(n0)))),
            (false, Automatic, false, &[1, 30], 1, passed, false, Guest(Reason::Conflict(Conflict::Cloned(n0)))),
            (false, Automatic, false, &[1, 2, 30], 30, passed, false, Guest(Reason::Conflict(Conflict::Cloned(n0)))),
            (false, Automatic, false, &[2], 1, passed, false, Known(n0)),
            (false, Automatic, false, &[9, 30], 30, passed, false, Learn(n2)),
            (false, Automatic, false, &[1, 9], 1, passed, false, Guest(Reason::Conflict(Conflict::TwoNodes(n0, n2)))),
        ];
        for (waits, numbering, ignored, macs, uuid, verdict, word, ruling) in rows {
            let street = street(waits);
            let view = View { street: &street, numbering, ignored };
            let ranges = [(Number(0), Number(7))].into_iter();
            assert_eq!(rule(&view, &papers(macs, uuid), verdict, ranges, word), ruling, "{macs:?} {uuid} {verdict} {numbering} {word}");
        }
        let view = View { street: &street(true), numbering: Automatic, ignored: false };
        let elsewhere = |first, last| rule(&view, &papers(&[20], 20), passed, [(Number(first), Number(last))].into_iter(), false);
        assert_eq!((elsewhere(2, 7), elsewhere(2, 2)), (Enlist(n3), Guest(Reason::NoLot)));
    }
}
