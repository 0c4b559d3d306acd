//! The lot table: a lot for every number, found by number and by MAC. What it says of a machine is the roll's only truth.
//!
//! A lot changes through [`LotTable::set`] alone, whole, so that a line of the journal says everything about it and may be replayed twice.
//! A MAC lives in one lot, and is retired in one at most. Everything is allocated at start; all but `set` on a lot with many MACs and
//! the search for a vacant lot (64 lots a step) is O(1).

use std::borrow::Borrow;
use std::fmt;

use crate::base::addr::Mac;
use crate::base::index::Index;

use super::lot::{AssignedBy, Fingerprint, Lot, LotState, MACS_MAX, Macs, Wait};
use super::plan::Number;

/// MACs that the lot table has room for, for each of its lots: most machines have two NICs, some have five.
const MACS_PER_LOT: usize = 4;
/// For a lot table of a few big machines.
const MACS_AT_LEAST: usize = 256;

pub struct LotTable {
    lots: Box<[Lot]>,
    residents: Index,
    retired: Index,
    /// MACs that may still be added.
    room: usize,
    /// A bit for each vacant lot.
    vacant: Box<[u64]>,
    /// Lots that wait for the next machine, the longest wait first.
    waiting: Vec<Number>,
    /// Lots that wait for the machine with one MAC.
    named: Vec<Number>,
    occupied: usize,
    reserved: usize,
    unseen: usize,
}

/// Why a lot was not set. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    NoSuchLot,
    /// This MAC lives in another lot.
    Taken(Mac, Number),
    /// The machine with this MAC lives here.
    Inhabited(Mac),
    /// The lot table has room for no more MACs.
    Full,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Clash::NoSuchLot => f.write_str("there is no such node (raise cluster.nodes)"),
            Clash::Taken(mac, number) => write!(f, "{mac} belongs to {number} (take it out first: muster node out {number})"),
            Clash::Inhabited(mac) => write!(f, "the machine with {mac} has this number (take it out first)"),
            Clash::Full => f.write_str("there is no room for more MAC addresses (raise cluster.nodes)"),
        }
    }
}

impl LotTable {
    pub fn new(nodes: u32, seed: u64) -> LotTable {
        let macs = LotTable::macs(nodes);
        let nodes = nodes as usize;
        let mut vacant: Box<[u64]> = vec![u64::MAX; nodes.div_ceil(64)].into();
        if let (Some(last), rest @ 1..) = (vacant.last_mut(), nodes % 64) {
            *last = (1 << rest) - 1;
        }
        LotTable {
            lots: vec![Lot::default(); nodes].into(),
            residents: Index::new(macs, seed),
            retired: Index::new(nodes.max(MACS_AT_LEAST), seed),
            room: macs,
            vacant,
            waiting: Vec::with_capacity(nodes),
            named: Vec::with_capacity(nodes),
            occupied: 0,
            reserved: 0,
            unseen: 0,
        }
    }

    /// How many MACs a lot table of so many lots has room for.
    pub fn macs(nodes: u32) -> usize {
        (nodes as usize * MACS_PER_LOT).max(MACS_AT_LEAST)
    }

    /// How many lots there are.
    pub fn len(&self) -> usize {
        self.lots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lots.is_empty()
    }

    pub fn occupied(&self) -> usize {
        self.occupied
    }

    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// Lots whose machine was given its number and has not been heard under its address since.
    pub fn unseen(&self) -> usize {
        self.unseen
    }

    pub fn lot(&self, number: Number) -> Option<&Lot> {
        self.lots.get(number.0 as usize)
    }

    /// The MACs that live in a lot.
    pub fn macs_of(&self, number: Number) -> Macs {
        self.lot(number).map(|lot| lot.fingerprint.macs).unwrap_or_default()
    }

    /// All lots, by number.
    pub fn iter(&self) -> impl Iterator<Item = (Number, &Lot)> {
        self.lots.iter().enumerate().map(|(n, lot)| (Number(n as u32), lot))
    }

    /// Who lives where.
    pub fn number_of(&self, mac: Mac) -> Option<Number> {
        self.residents.get(mac.to_u64()).map(Number)
    }

    /// The number that a machine had before it was replaced.
    pub fn retired_from(&self, mac: Mac) -> Option<Number> {
        self.retired.get(mac.to_u64()).map(Number)
    }

    /// Sets a lot: see [`LotTable::set_all`].
    pub fn set(&mut self, number: Number, lot: Lot) -> Result<(), Clash> {
        self.set_all(&[(number, lot)])
    }

    /// Sets lots at once, each named once: MACs may move between them in any way. A MAC that moves in is retired nowhere any more; one that is
    /// retired here is no longer so elsewhere. Nothing is changed when it gives a clash.
    pub fn set_all<L: Borrow<(Number, Lot)>>(&mut self, lots: &[L]) -> Result<(), Clash> {
        let lots = lots.iter().map(|lot| {
            let (number, lot) = lot.borrow();
            (*number, lot)
        });
        self.move_macs(lots.clone())?;
        self.place(lots);
        Ok(())
    }

    /// The first half of it: MACs are found in the lots where they will live. [`LotTable::place`] must follow, with the same lots.
    pub(super) fn move_macs<'a>(&mut self, lots: impl Iterator<Item = (Number, &'a Lot)> + Clone) -> Result<(), Clash> {
        let mut room = self.room;
        for (number, _) in lots.clone() {
            room += self.lot(number).ok_or(Clash::NoSuchLot)?.fingerprint.macs.len();
        }
        for (_, lot) in lots.clone() {
            room = room.checked_sub(lot.fingerprint.macs.len()).ok_or(Clash::Full)?;
        }
        for (number, _) in lots.clone() {
            let old = self.macs_of(number);
            self.lose(number, &old);
        }
        let mut clash = None;
        for (number, lot) in lots.clone() {
            let other = |mac: &Mac| self.number_of(*mac).map(|other| Clash::Taken(*mac, other));
            clash = lot.fingerprint.macs.as_slice().iter().find_map(other);
            if clash.is_some() {
                break;
            }
            self.find_in(number, &lot.fingerprint.macs);
        }
        let waits = |(number, lot): (Number, &Lot)| {
            let mac = waits_for(lot)?;
            self.number_of(mac).filter(|&other| other != number).map(|other| Clash::Taken(mac, other))
        };
        let Some(clash) = clash.or_else(|| lots.clone().find_map(waits)) else {
            self.room = room;
            return Ok(());
        };
        lots.clone().for_each(|(number, lot)| self.lose(number, &lot.fingerprint.macs));
        for (number, _) in lots {
            let old = self.macs_of(number);
            self.find_in(number, &old);
        }
        Err(clash)
    }

    /// Lets these MACs be found in a lot.
    fn find_in(&mut self, number: Number, macs: &Macs) {
        for mac in macs.as_slice() {
            let fits = self.residents.insert(mac.to_u64(), number.0);
            assert!(fits, "the index has a place for every MAC that there was room for");
        }
    }

    /// Lets those of these MACs that are found in a lot be found nowhere.
    fn lose(&mut self, number: Number, macs: &Macs) {
        for mac in macs.as_slice() {
            if self.number_of(*mac) == Some(number) {
                self.residents.remove(mac.to_u64());
            }
        }
    }

    /// The second half of [`LotTable::set_all`].
    pub(super) fn place<'a>(&mut self, lots: impl Iterator<Item = (Number, &'a Lot)> + Clone) {
        lots.clone().for_each(|(number, _)| self.take_out(number));
        lots.for_each(|(number, lot)| self.put_in(number, *lot));
    }

    fn take_out(&mut self, number: Number) {
        let Some(old) = self.lots.get_mut(number.0 as usize) else { return };
        let (state, retired, unseen) = (old.state, std::mem::take(&mut old.retired), std::mem::take(&mut old.unseen));
        for mac in retired.as_slice() {
            if self.retired_from(*mac) == Some(number) {
                self.retired.remove(mac.to_u64());
            }
        }
        self.unseen -= usize::from(unseen);
        match state {
            LotState::Vacant => self.mark(number, false),
            LotState::Occupied => self.occupied -= 1,
            LotState::Reserved(_) => {
                self.reserved -= 1;
                self.waiting.retain(|&other| other != number);
                self.named.retain(|&other| other != number);
            }
        }
    }

    fn put_in(&mut self, number: Number, mut lot: Lot) {
        lot.fingerprint.macs.as_slice().iter().for_each(|mac| self.forget_retired(*mac));
        // Who lives in the lot table is retired nowhere. A full index forgets who was.
        lot.retired = lot.retired.as_slice().iter().copied().filter(|mac| self.number_of(*mac).is_none()).collect();
        for mac in lot.retired.as_slice() {
            self.forget_retired(*mac);
            self.retired.insert(mac.to_u64(), number.0);
        }
        self.unseen += usize::from(lot.unseen);
        match lot.state {
            LotState::Vacant => self.mark(number, true),
            LotState::Occupied => self.occupied += 1,
            LotState::Reserved(wait) => {
                self.reserved += 1;
                match wait {
                    Wait::Next => self.waiting.push(number),
                    Wait::Mac(_) => self.named.push(number),
                    Wait::Operator => {}
                }
            }
        }
        if let Some(place) = self.lots.get_mut(number.0 as usize) {
            *place = lot;
        }
    }

    fn forget_retired(&mut self, mac: Mac) {
        let place = self.retired.remove(mac.to_u64()).and_then(|number| self.lots.get_mut(number as usize));
        if let Some(lot) = place {
            lot.retired.remove(mac);
        }
    }

    fn mark(&mut self, number: Number, vacant: bool) {
        let bit = 1 << (number.0 % 64);
        if let Some(word) = self.vacant.get_mut(number.0 as usize / 64) {
            *word = if vacant { *word | bit } else { *word & !bit };
        }
    }

    /// The lowest vacant lot within inclusive ranges of numbers, those left out whose bit is set in `spoken_for`.
    pub fn lowest_vacant(&self, ranges: impl Iterator<Item = (Number, Number)>, spoken_for: &[u64]) -> Option<Number> {
        ranges.filter_map(|(first, last)| self.vacant_within(first.0, last.0, spoken_for)).min()
    }

    fn vacant_within(&self, first: u32, last: u32, spoken_for: &[u64]) -> Option<Number> {
        let words = self.vacant.iter().zip(spoken_for.iter().chain(std::iter::repeat(&0))).map(|(vacant, spoken)| vacant & !spoken);
        let words = words.enumerate().skip(first as usize / 64);
        let masked = words.map(|(at, word)| (at, if at == first as usize / 64 { word & (u64::MAX << (first % 64)) } else { word }));
        let found = masked.take_while(|(at, _)| *at <= last as usize / 64).find(|(_, word)| *word != 0);
        found.map(|(at, word)| Number(at as u32 * 64 + word.trailing_zeros())).filter(|number| number.0 <= last)
    }

    /// The lot that waits for one of these MACs by name, else the one that has waited longest for the next machine, within ranges.
    pub fn waiting_for(&self, macs: &Macs, within: impl Fn(Number) -> bool) -> Option<Number> {
        let waits = |number: &Number| self.lot(*number).and_then(waits_for).is_some_and(|mac| macs.contains(mac));
        let named = self.named.iter().copied().find(waits);
        named.or_else(|| self.waiting.iter().copied().find(|&number| within(number)))
    }

    /// Takes over the `[[node]]` sections of a config: `sections` are all of them, `section` finds one. Each is the last word on its number;
    /// what its machine showed beside stays. Gives the first section that contradicts the journal, with the reason: nothing was changed then.
    pub fn configure<'a>(
        &mut self,
        sections: impl Iterator<Item = (Number, &'a [Mac])> + Clone,
        section: impl Fn(Number) -> Option<&'a [Mac]>,
        unix: u64,
    ) -> Result<(), (Number, Clash)> {
        self.agrees(sections.clone())?;
        for n in 0..self.lots.len() as u32 {
            let Some(lot) = self.lot(Number(n)).filter(|lot| configured(lot) > 0) else { continue };
            if !section(Number(n)).is_some_and(|macs| shares(macs, &lot.fingerprint.macs)) {
                self.set(Number(n), Lot { retired: lot.retired, ..Lot::default() }).map_err(|clash| (Number(n), clash))?;
            }
        }
        let left = |lots: &LotTable, number, macs: &[Mac]| {
            let lot = lots.lot(number).copied().unwrap_or_default();
            let learnt = lot.fingerprint.macs.as_slice().iter().skip(usize::from(configured(&lot)));
            let all = macs.iter().chain(learnt.filter(|mac| lots.number_of(**mac) == Some(number))).copied().collect();
            lot.occupied(Fingerprint { macs: all, ..lot.fingerprint }, AssignedBy::Config(macs.len().min(MACS_MAX) as u8), unix)
        };
        // First every section lets go of what it names no more, so that MACs may move between them.
        for (number, macs) in sections.clone() {
            let old = self.lot(number).copied().unwrap_or_default();
            let mut next = left(self, number, macs);
            next.fingerprint.macs =
                next.fingerprint.macs.as_slice().iter().copied().filter(|mac| old.fingerprint.macs.contains(*mac)).collect();
            if old.is_occupied() && next.fingerprint.macs != old.fingerprint.macs {
                self.set(number, next).map_err(|clash| (number, clash))?;
            }
        }
        for (number, macs) in sections {
            let next = left(self, number, macs);
            if self.lot(number).is_none_or(|old| (old.fingerprint, old.by) != (next.fingerprint, next.by)) {
                self.set(number, next).map_err(|clash| (number, clash))?;
            }
        }
        Ok(())
    }

    /// Whether sections of a config agree with who passed muster, or was placed by the operator.
    fn agrees<'a>(&self, mut sections: impl Iterator<Item = (Number, &'a [Mac])>) -> Result<(), (Number, Clash)> {
        sections.try_for_each(|(number, macs)| {
            let lot = self.lot(number).ok_or((number, Clash::NoSuchLot))?;
            let inhabited = lot.is_occupied() && configured(lot) == 0 && !shares(macs, &lot.fingerprint.macs);
            if let Some(&other) = lot.fingerprint.macs.as_slice().first().filter(|_| inhabited) {
                return Err((number, Clash::Inhabited(other)));
            }
            // A MAC that an older config named elsewhere has moved; one that a machine showed elsewhere has not.
            let moves = |mac: &Mac, other| {
                self.lot(other).is_some_and(|lot| lot.fingerprint.macs.as_slice().iter().take(configured(lot).into()).any(|m| m == mac))
            };
            let elsewhere = |mac: &Mac| self.number_of(*mac).filter(|&other| other != number && !moves(mac, other));
            match macs.iter().find_map(|mac| Some(Clash::Taken(*mac, elsewhere(mac)?))) {
                Some(clash) => Err((number, clash)),
                None => Ok(()),
            }
        })
    }
}

/// How many of a lot's MACs a section named: they stand first.
fn configured(lot: &Lot) -> u8 {
    match (lot.state, lot.by) {
        (LotState::Occupied, AssignedBy::Config(macs)) => macs,
        _ => 0,
    }
}

fn shares(macs: &[Mac], others: &Macs) -> bool {
    macs.iter().any(|mac| others.contains(*mac))
}

/// The one MAC that a lot waits for.
fn waits_for(lot: &Lot) -> Option<Mac> {
    match lot.state {
        LotState::Reserved(Wait::Mac(mac)) => Some(mac),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn mac(n: u64) -> Mac {
        Mac([2, 0, (n >> 24) as u8, (n >> 16) as u8, (n >> 8) as u8, n as u8])
    }

    fn fingerprint(macs: &[u64]) -> Fingerprint {
        Fingerprint { macs: macs.iter().map(|&n| mac(n)).collect(), ..Fingerprint::default() }
    }

    fn whole(lots: &LotTable) -> [(Number, Number); 1] {
        [(Number(0), Number(lots.len() as u32 - 1))]
    }

    fn move_in(lots: &mut LotTable, number: u32, macs: &[u64]) -> Result<(), Clash> {
        let lot = lots.lot(Number(number)).copied().unwrap_or_default();
        lots.set(Number(number), lot.occupied(fingerprint(macs), AssignedBy::Passed, 1))
    }

    #[test]
    fn the_lowest_vacant_lot() {
        let mut lots = LotTable::new(130, 1);
        assert_eq!(lots.lowest_vacant(whole(&lots).into_iter(), &[]), Some(Number(0)));
        for n in 0..129 {
            move_in(&mut lots, n, &[u64::from(n)]).unwrap();
        }
        assert_eq!(lots.lowest_vacant(whole(&lots).into_iter(), &[]), Some(Number(129)));
        move_in(&mut lots, 129, &[1000]).unwrap();
        assert_eq!((lots.lowest_vacant(whole(&lots).into_iter(), &[]), lots.occupied()), (None, 130));
        for n in [70, 100] {
            lots.set(Number(n), Lot::default()).unwrap();
        }
        let within = |ranges: &[(u32, u32)]| lots.lowest_vacant(ranges.iter().map(|(a, b)| (Number(*a), Number(*b))), &[]);
        assert_eq!((within(&[(0, 129)]), within(&[(71, 129)]), within(&[(71, 99)])), (Some(Number(70)), Some(Number(100)), None));
        assert_eq!(within(&[(99, 100), (60, 70)]), Some(Number(70)));
        let but = |spoken: &[u64]| lots.lowest_vacant(whole(&lots).into_iter(), spoken);
        assert_eq!((but(&[0, 1 << 6]), but(&[0, 1 << 6 | 1 << 36])), (Some(Number(100)), None), "those that are offered are left out");
    }

    #[test]
    fn a_mac_lives_in_one_lot() {
        let mut lots = LotTable::new(8, 1);
        move_in(&mut lots, 3, &[1, 2]).unwrap();
        assert_eq!(move_in(&mut lots, 4, &[9, 2]), Err(Clash::Taken(mac(2), Number(3))));
        assert_eq!((lots.number_of(mac(9)), lots.lot(Number(4)).map(Lot::is_vacant)), (None, Some(true)));
        move_in(&mut lots, 3, &[1]).unwrap();
        move_in(&mut lots, 4, &[9, 2]).unwrap();
        assert_eq!([1, 2, 9].map(|n| lots.number_of(mac(n))), [Some(Number(3)), Some(Number(4)), Some(Number(4))]);
        assert_eq!(lots.set(Number(8), Lot::default()), Err(Clash::NoSuchLot));
    }

    #[test]
    fn who_was_replaced_is_known_until_it_moves_in_again() {
        let mut lots = LotTable::new(8, 1);
        move_in(&mut lots, 3, &[1, 2]).unwrap();
        let lot = *lots.lot(Number(3)).unwrap();
        lots.set(Number(3), lot.reserved(Wait::Next, 5)).unwrap();
        assert_eq!((lots.number_of(mac(1)), lots.retired_from(mac(1)), lots.reserved()), (None, Some(Number(3)), 1));
        move_in(&mut lots, 5, &[2]).unwrap();
        assert_eq!((lots.retired_from(mac(2)), lots.lot(Number(3)).unwrap().retired.as_slice()), (None, [mac(1)].as_slice()));
    }

    #[test]
    fn lots_wait_for_a_machine_by_name_or_for_the_next() {
        let mut lots = LotTable::new(8, 1);
        for (n, wait) in [(6, Wait::Next), (2, Wait::Next), (4, Wait::Mac(mac(7)))] {
            lots.set(Number(n), Lot::default().reserved(wait, 5)).unwrap();
        }
        let waiting = |lots: &LotTable, n| lots.waiting_for(&fingerprint(&[n]).macs, |_| true);
        assert_eq!((waiting(&lots, 1), waiting(&lots, 7)), (Some(Number(6)), Some(Number(4))));
        assert_eq!(lots.waiting_for(&fingerprint(&[1]).macs, |number| number.0 < 4), Some(Number(2)));
        move_in(&mut lots, 6, &[1]).unwrap();
        assert_eq!((waiting(&lots, 3), lots.reserved()), (Some(Number(2)), 2));
        assert!(lots.lowest_vacant([(Number(2), Number(2))].into_iter(), &[]).is_none());
    }

    fn configure(lots: &mut LotTable, sections: &[(u32, &[u64])]) -> Result<(), (Number, Clash)> {
        let sections: Vec<(Number, Vec<Mac>)> =
            sections.iter().map(|(n, macs)| (Number(*n), macs.iter().map(|&m| mac(m)).collect())).collect();
        let all = sections.iter().map(|(number, macs)| (*number, macs.as_slice()));
        lots.configure(all, |number| sections.iter().find(|(n, _)| *n == number).map(|(_, macs)| macs.as_slice()), 9)
    }

    fn macs_of(lots: &LotTable, number: u32) -> Vec<u64> {
        lots.lot(Number(number)).unwrap().fingerprint.macs.as_slice().iter().map(|mac| mac.to_u64() & 0xffff).collect()
    }

    #[test]
    fn the_config_is_the_last_word_on_its_nodes() {
        let mut lots = LotTable::new(8, 1);
        move_in(&mut lots, 3, &[1, 2]).unwrap();
        configure(&mut lots, &[(1, &[10, 11]), (2, &[20]), (3, &[2])]).unwrap();
        assert_eq!((macs_of(&lots, 1), macs_of(&lots, 3)), (vec![10, 11], vec![2, 1]));
        // It learnt of another NIC, which outlives a reload; a MAC may go, and move to another section.
        let mut lot = *lots.lot(Number(1)).unwrap();
        lot.fingerprint.macs.add(mac(12));
        lots.set(Number(1), lot).unwrap();
        configure(&mut lots, &[(1, &[10]), (2, &[11, 20]), (3, &[2])]).unwrap();
        assert_eq!((macs_of(&lots, 1), macs_of(&lots, 2)), (vec![10, 12], vec![11, 20]));
        configure(&mut lots, &[(2, &[11, 20])]).unwrap();
        assert!(lots.lot(Number(1)).unwrap().is_vacant() && lots.number_of(mac(12)).is_none());
        assert_eq!(lots.occupied(), 1);
        // What passed muster is not pushed out by the config.
        move_in(&mut lots, 5, &[50]).unwrap();
        assert_eq!(configure(&mut lots, &[(5, &[51])]), Err((Number(5), Clash::Inhabited(mac(50)))));
        assert_eq!(configure(&mut lots, &[(6, &[50])]), Err((Number(6), Clash::Taken(mac(50), Number(5)))));
    }

    #[test]
    fn the_indices_follow_the_lots_through_churn() {
        let mut rng = Rng::new(5);
        let mut lots = LotTable::new(20, 1);
        for _ in 0..20_000 {
            let number = Number(rng.below(20) as u32);
            let old = *lots.lot(number).unwrap();
            let macs: Vec<u64> = (0..rng.below(5)).map(|_| rng.below(60)).collect();
            let next = match rng.below(4) {
                0 => Lot::default(),
                1 => old.reserved(Wait::Next, 1),
                2 => old.emptied(1),
                _ => Lot { unseen: rng.chance(500_000), ..old.occupied(fingerprint(&macs), AssignedBy::Passed, 1) },
            };
            let before = lots.iter().map(|(_, lot)| *lot).collect::<Vec<_>>();
            if lots.set(number, next).is_err() {
                assert!(lots.iter().map(|(_, lot)| *lot).eq(before));
            }
            for n in 0..60 {
                let lives: Vec<_> =
                    lots.iter().filter(|(_, lot)| lot.fingerprint.macs.contains(mac(n))).map(|(number, _)| number).collect();
                let retired: Vec<_> = lots.iter().filter(|(_, lot)| lot.retired.contains(mac(n))).map(|(number, _)| number).collect();
                assert!(lives.len() <= 1 && retired.len() <= 1 && lives.len() + retired.len() <= 1);
                assert_eq!((lots.number_of(mac(n)), lots.retired_from(mac(n))), (lives.first().copied(), retired.first().copied()));
            }
            assert_eq!(lots.occupied(), lots.iter().filter(|(_, lot)| lot.is_occupied()).count());
            assert_eq!(lots.unseen(), lots.iter().filter(|(_, lot)| lot.unseen).count());
            let first = lots.iter().find(|(_, lot)| lot.is_vacant()).map(|(number, _)| number);
            assert_eq!(lots.lowest_vacant(whole(&lots).into_iter(), &[]), first);
        }
    }
}
