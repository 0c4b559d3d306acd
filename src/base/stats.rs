//! What happened, counted by name: every drop has a reason, every reason a counter (law 3). Each service names its own counters
//! ([`counters!`](crate::counters)); here they are added up.

/// Things that are counted.
pub trait Counted: Copy + 'static {
    /// All of them, in the order of their places.
    const ALL: &'static [Self];

    /// Its name in logs and reports.
    fn name(self) -> &'static str;

    /// Its place in [`ALL`](Counted::ALL).
    fn place(self) -> usize;
}

/// Names counters: `Name = "text",`, each with what its text does not say.
#[macro_export]
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A thing that is counted. The text is its name in logs and reports.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Counter { $(#[doc = $text] $(#[$doc])* $name,)* }

        impl $crate::base::stats::Counted for Counter {
            const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            fn name(self) -> &'static str {
                match self { $(Counter::$name => $text,)* }
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

/// How often each thing has happened.
#[derive(Clone, Debug)]
pub struct Tally<C> {
    counts: Box<[u64]>,
    of: std::marker::PhantomData<fn() -> C>,
}

impl<C: Counted> Default for Tally<C> {
    fn default() -> Tally<C> {
        Tally { counts: vec![0; C::ALL.len()].into(), of: std::marker::PhantomData }
    }
}

impl<C: Counted> Tally<C> {
    /// Counts `n` more.
    pub fn add(&mut self, counter: C, n: u64) {
        self.counts[counter.place()] += n;
    }

    /// How often it has happened.
    pub fn get(&self, counter: C) -> u64 {
        self.counts[counter.place()]
    }

    /// All that are not zero, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        C::ALL.iter().map(|&counter| (counter.name(), self.get(counter))).filter(|&(_, n)| n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::counters! {
        Came = "came",
        /// Bytes.
        Went = "went, in bytes",
    }

    #[test]
    fn counts_by_name() {
        let mut tally = Tally::default();
        assert_eq!(tally.iter().count(), 0);
        tally.add(Counter::Went, 1468);
        assert_eq!((tally.get(Counter::Came), tally.iter().collect::<Vec<_>>()), (0, vec![("went, in bytes", 1468)]));
    }
}
