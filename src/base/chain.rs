//! Chains of slots: queues, each in the order in which its slots came, that a slot may leave from the middle. Slot `n` belongs to slot
//! `n` of a slab and stands in one of the chains at most. Everything is O(1); nothing is allocated after the start.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct ChainLinks {
    prev: u32,
    next: u32,
    /// The chain that it stands in, or NONE.
    chain: u32,
}

const OUTSIDE: ChainLinks = ChainLinks { prev: NONE, next: NONE, chain: NONE };

#[derive(Clone, Copy)]
struct ChainEnds {
    first: u32,
    last: u32,
    len: usize,
}

/// `N` chains of slots, numbered from 0.
pub struct Chains<const N: usize> {
    links: Box<[ChainLinks]>,
    ends: [ChainEnds; N],
}

impl<const N: usize> Chains<N> {
    /// Empty chains of the slots `0..slots`.
    pub fn new(slots: usize) -> Chains<N> {
        assert!(slots < NONE as usize);
        Chains { links: vec![OUTSIDE; slots].into(), ends: [ChainEnds { first: NONE, last: NONE, len: 0 }; N] }
    }

    /// How many slots stand in a chain.
    pub fn len(&self, chain: usize) -> usize {
        self.ends[chain].len
    }

    /// Whether no slot stands in a chain.
    pub fn is_empty(&self, chain: usize) -> bool {
        self.ends[chain].len == 0
    }

    /// The slot that has stood in a chain longest.
    pub fn first(&self, chain: usize) -> Option<usize> {
        let first = self.ends[chain].first;
        (first != NONE).then_some(first as usize)
    }

    /// The slot behind this one in its chain.
    pub fn after(&self, slot: usize) -> Option<usize> {
        self.links.get(slot).map(|links| links.next).filter(|next| *next != NONE).map(|next| next as usize)
    }

    /// The slot that came to a chain last.
    pub fn last(&self, chain: usize) -> Option<usize> {
        let last = self.ends[chain].last;
        (last != NONE).then_some(last as usize)
    }

    /// Whether a slot stands in a chain.
    pub fn holds(&self, slot: usize) -> bool {
        self.links[slot].chain != NONE
    }

    /// Puts a slot at the end of a chain. One that stands in a chain stays where it is.
    pub fn push(&mut self, chain: usize, slot: usize) {
        if self.links[slot].chain != NONE {
            return;
        }
        let ends = &mut self.ends[chain];
        self.links[slot] = ChainLinks { prev: ends.last, next: NONE, chain: chain as u32 };
        match std::mem::replace(&mut ends.last, slot as u32) {
            NONE => ends.first = slot as u32,
            last => self.links[last as usize].next = slot as u32,
        }
        ends.len += 1;
    }

    /// Takes a slot out of the chain that it stands in, if it stands in one.
    pub fn remove(&mut self, slot: usize) {
        let ChainLinks { prev, next, chain } = std::mem::replace(&mut self.links[slot], OUTSIDE);
        let Some(ends) = self.ends.get_mut(chain as usize) else { return };
        match prev {
            NONE => ends.first = next,
            prev => self.links[prev as usize].next = next,
        }
        match next {
            NONE => ends.last = prev,
            next => self.links[next as usize].prev = prev,
        }
        ends.len -= 1;
    }

    /// Takes the first slot out of a chain.
    pub fn pop(&mut self, chain: usize) -> Option<usize> {
        let first = self.first(chain)?;
        self.remove(first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// They do what plain queues do.
        #[test]
        fn as_queues(steps in proptest::collection::vec((0usize..8, 0usize..4), 0..200)) {
            let (mut chains, mut queues) = (Chains::<2>::new(8), [VecDeque::new(), VecDeque::new()]);
            for (slot, step) in steps {
                match step {
                    chain @ 0..2 => {
                        chains.push(chain, slot);
                        if !queues.iter().any(|queue| queue.contains(&slot)) {
                            queues[chain].push_back(slot);
                        }
                    }
                    2 => {
                        chains.remove(slot);
                        queues.iter_mut().for_each(|queue| queue.retain(|other| *other != slot));
                    }
                    _ => prop_assert_eq!(chains.pop(slot % 2), queues[slot % 2].pop_front()),
                }
                for (chain, queue) in queues.iter().enumerate() {
                    prop_assert_eq!((chains.first(chain), chains.len(chain)), (queue.front().copied(), queue.len()));
                    prop_assert_eq!((chains.is_empty(chain), chains.last(chain)), (queue.is_empty(), queue.back().copied()));
                }
                for slot in 0..8 {
                    prop_assert_eq!(chains.holds(slot), queues.iter().any(|queue| queue.contains(&slot)));
                }
            }
        }
    }
}
