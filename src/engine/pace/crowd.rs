//! What the clients of a link see of the way, one voice each.
//!
//! A queue that is really shared delays everybody who has packets in it, and a way that loses loses everybody's: so the *median* of the
//! clients heard in the last few ticks tells of the queue, and loss counts when *most* of them lose. A mean would not do: one client that
//! acknowledges 300 ms late, because it writes to a slow card or means harm, would outweigh a hundred that see no queue, and the fewer
//! acknowledgements the others were allowed the more it would weigh. Each client has one voice a tick, however often it speaks, and fewer
//! than three are no crowd: what they see may be their own doing. Half of those heard minus one may say what they like.
//!
//! Cost: O(1) a packet, and a sum over 40 numbers a tick.

use std::time::Duration;

/// Rises by size: four bins an octave from 64 µs on; the last has all from 57 ms on.
const BINS: usize = 40;
const LEAST_EXPONENT: u32 = 6;
/// What a voice weighs in its tick; a quarter of it is lost in each tick after that.
const VOICE: u32 = 1 << 10;
/// Ticks in which those are counted who make up a crowd, and how many do.
const SPAN: u64 = 16;
const QUORUM: u32 = 3;

/// A client as evidence: its least round trip, and when it was counted last. There is one in every transfer, so it is small: a tick is
/// kept in 32 bits, which wrap after 497 days.
#[derive(Clone, Copy, Debug, Default)]
pub struct Witness {
    /// In nanoseconds.
    least: u64,
    /// Tick and span, counted from 1, in which it was heard, and in which it reported loss.
    heard: u32,
    span: u32,
    lost: u32,
    rose: u32,
    mute: bool,
}

impl Witness {
    /// The least round trip so far; zero before the first.
    pub fn least(&self) -> Duration {
        Duration::from_nanos(self.least)
    }

    /// Its client speaks by another transfer from now on: this one has no voice.
    pub fn silence(&mut self) {
        self.mute = true;
    }

    /// Takes in a round trip; gives its rise over the least.
    pub(super) fn measure(&mut self, trip: Duration) -> Duration {
        let nanos = trip.as_nanos() as u64;
        if self.least == 0 || nanos < self.least {
            self.least = nanos;
        }
        Duration::from_nanos(nanos - self.least)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Crowd {
    rises: [u32; BINS],
    heard: u32,
    losers: u32,
    /// Clients heard in the present span and in the one before.
    span: u64,
    spoke: [u32; 2],
}

impl Crowd {
    pub const EMPTY: Crowd = Crowd { rises: [0; BINS], heard: 0, losers: 0, span: 0, spoke: [0; 2] };

    /// Something was heard of a client.
    pub fn hears(&mut self, tick: u64, witness: &mut Witness) {
        if witness.mute {
            return;
        }
        let span = tick / SPAN + 1;
        if self.span != span {
            let before = if self.span + 1 == span { self.spoke[0] } else { 0 };
            (self.span, self.spoke) = (span, [0, before]);
        }
        self.spoke[0] += u32::from(std::mem::replace(&mut witness.span, span as u32) != span as u32);
        self.heard += voice(tick, &mut witness.heard);
    }

    /// A client has measured a round trip this much longer than its least.
    pub fn rose(&mut self, tick: u64, witness: &mut Witness, rise: Duration) {
        if !witness.mute {
            self.rises[bin(rise)] += voice(tick, &mut witness.rose);
        }
    }

    /// A client has lost something.
    pub fn lost(&mut self, tick: u64, witness: &mut Witness) {
        if !witness.mute {
            self.losers += voice(tick, &mut witness.lost);
        }
    }

    /// The rise that half of the clients see: the queue on the way. None while there are too few to say.
    pub fn rise(&self) -> Option<Duration> {
        let all: u32 = self.rises.iter().sum();
        if !self.is_quorate() || all == 0 {
            return None;
        }
        let mut below = 0;
        let median = self.rises.iter().position(|&weight| {
            below += weight;
            below * 2 > all
        });
        median.map(floor)
    }

    /// Whether most clients lose something.
    pub fn loses(&self) -> bool {
        self.is_quorate() && self.losers * 2 > self.heard
    }

    fn is_quorate(&self) -> bool {
        self.spoke.iter().any(|&clients| clients >= QUORUM)
    }

    /// A tick has passed: what was said in it weighs less from now on.
    pub fn fade(&mut self) {
        let Crowd { rises, heard, losers, .. } = self;
        rises.iter_mut().chain([heard, losers]).for_each(|weight| *weight = *weight * 3 / 4);
    }
}

/// The weight of a voice, if it is the first of its client in this tick.
fn voice(tick: u64, last: &mut u32) -> u32 {
    let tick = (tick + 1) as u32;
    if std::mem::replace(last, tick) == tick { 0 } else { VOICE }
}

fn bin(rise: Duration) -> usize {
    let micros = rise.as_micros().clamp(1 << LEAST_EXPONENT, 1 << 30) as u32;
    let exponent = micros.ilog2();
    let quarter = micros >> (exponent - 2) & 3;
    (((exponent - LEAST_EXPONENT) * 4 + quarter) as usize).min(BINS - 1)
}

/// The least rise of a bin; of the first one, none.
fn floor(bin: usize) -> Duration {
    let (exponent, quarter) = (bin as u32 / 4 + LEAST_EXPONENT, bin as u64 % 4);
    if bin == 0 { Duration::ZERO } else { Duration::from_micros((4 + quarter) << (exponent - 2)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn bins_are_a_quarter_wide_at_most() {
        for micros in (65..60_000).step_by(7) {
            let (rise, floor) = (Duration::from_micros(micros), floor(bin(Duration::from_micros(micros))));
            assert!(floor <= rise && (floor * 5 / 4 > rise || bin(rise) == 0), "{rise:?} {floor:?}");
        }
        assert_eq!((bin(ms(1000)), bin(Duration::ZERO)), (BINS - 1, 0));
    }

    /// Clients that are heard in a tick, and the rise that each sees; some of them lose.
    fn crowd(ticks: u64, rises: &[(usize, Duration)], losers: usize) -> Crowd {
        let mut crowd = Crowd::EMPTY;
        let count = rises.iter().map(|(count, _)| count).sum();
        let mut witnesses = vec![Witness::default(); count];
        for tick in 0..ticks {
            let all = rises.iter().flat_map(|&(count, rise)| std::iter::repeat_n(rise, count));
            for (n, (witness, rise)) in witnesses.iter_mut().zip(all).enumerate() {
                // However often it speaks.
                for _ in 0..if n == 0 { 50 } else { 1 } {
                    crowd.hears(tick, witness);
                    crowd.rose(tick, witness, rise);
                }
                if n < losers {
                    crowd.lost(tick, witness);
                }
            }
            if tick + 1 < ticks {
                crowd.fade();
            }
        }
        crowd
    }

    #[test]
    fn the_median_is_what_most_see() {
        assert_eq!(crowd(9, &[(20, ms(300)), (30, ms(0))], 20).rise(), Some(Duration::ZERO));
        assert!(crowd(9, &[(20, ms(0)), (30, ms(4))], 0).rise().is_some_and(|rise| rise >= ms(3) && rise <= ms(4)));
        assert_eq!(crowd(1, &[(49, ms(300)), (50, ms(0))], 0).rise(), Some(Duration::ZERO), "in one tick, too");
    }

    #[test]
    fn loss_counts_when_most_lose() {
        assert!(!crowd(9, &[(50, ms(0))], 25).loses());
        assert!(crowd(9, &[(50, ms(0))], 26).loses());
    }

    #[test]
    fn two_are_no_crowd() {
        let two = crowd(30, &[(2, ms(300))], 2);
        assert_eq!((two.rise(), two.loses()), (None, false));
        assert!(crowd(30, &[(3, ms(300))], 3).rise().is_some_and(|rise| rise > ms(50)));
    }

    #[test]
    fn a_client_has_one_voice_and_a_former_transfer_none() {
        let (mut crowd, mut witnesses) = (Crowd::EMPTY, [Witness::default(); 5]);
        witnesses[4].silence();
        for witness in &mut witnesses {
            (0..10).for_each(|_| crowd.hears(7, witness));
        }
        assert_eq!((crowd.heard, crowd.spoke[0]), (4 * VOICE, 4));
    }
}
