//! The number that a machine may get, which it has not got.

use crate::roll::plan::Number;

#[derive(Default)]
pub struct Prospect {
    offered: Option<Number>,
    delayed: bool,
}

impl Prospect {
    /// The number whose address it was offered last; see [`Offers`](crate::roll::offers::Offers).
    pub fn offered(&self) -> Option<Number> {
        self.offered
    }

    /// Whether it took an offer, and its number waits for the rate at which new ones are given.
    pub fn is_delayed(&self) -> bool {
        self.delayed
    }

    /// It is offered the address of this number.
    pub fn offers(&mut self, number: Number) {
        self.offered = Some(number);
    }

    /// Its number is given later.
    pub fn delays(&mut self) {
        self.delayed = true;
    }

    /// It reports once more.
    pub(super) fn reports(&mut self) {
        self.delayed = false;
    }
}
