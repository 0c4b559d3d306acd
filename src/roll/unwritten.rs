//! Lots that were changed together and are still to be written: a bit for each lot, allocated at start.

use super::plan::Number;

#[derive(Debug, Default)]
pub struct Unwritten {
    bits: Box<[u64]>,
    /// How many there are.
    len: usize,
    /// There is none in the words before this one.
    from: usize,
}

impl Unwritten {
    pub fn new(lots: usize) -> Unwritten {
        Unwritten { bits: vec![0; lots.div_ceil(64)].into(), len: 0, from: 0 }
    }

    /// Has room for so many lots from now on, and forgets none. Allocates.
    pub fn grow(&mut self, lots: usize) {
        let words = lots.div_ceil(64).max(self.bits.len());
        self.bits = (0..words).map(|at| self.bits.get(at).copied().unwrap_or(0)).collect();
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn add(&mut self, number: Number) {
        let (at, bit) = (number.0 as usize / 64, 1 << (number.0 % 64));
        let Some(word) = self.bits.get_mut(at) else { return };
        self.len += usize::from(*word & bit == 0);
        *word |= bit;
        self.from = self.from.min(at);
    }

    /// The lowest one.
    pub fn first(&mut self) -> Option<Number> {
        while self.len > 0 {
            let word = *self.bits.get(self.from)?;
            if word != 0 {
                return Some(Number(self.from as u32 * 64 + word.trailing_zeros()));
            }
            self.from += 1;
        }
        None
    }

    pub fn remove(&mut self, number: Number) {
        let (at, bit) = (number.0 as usize / 64, 1 << (number.0 % 64));
        let Some(word) = self.bits.get_mut(at) else { return };
        self.len -= usize::from(*word & bit != 0);
        *word &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_set() {
        let (mut rng, mut unwritten, mut model) = (Rng::new(3), Unwritten::new(130), BTreeSet::new());
        for _ in 0..20_000 {
            let number = Number(rng.below(130) as u32);
            match rng.below(3) {
                0 => {
                    unwritten.remove(number);
                    model.remove(&number);
                }
                _ => {
                    unwritten.add(number);
                    model.insert(number);
                }
            }
            if rng.chance(10_000) {
                unwritten.grow(rng.below(300) as usize);
                let all = std::iter::from_fn(|| unwritten.first().inspect(|number| unwritten.remove(*number)));
                assert!(all.eq(std::mem::take(&mut model)) && unwritten.is_empty());
            }
            assert_eq!((unwritten.first(), unwritten.is_empty()), (model.first().copied(), model.is_empty()));
        }
    }
}
