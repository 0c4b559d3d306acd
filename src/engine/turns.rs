//! Turns: which service may send now, and for which of its records.
//!
//! A service that sends much does not send at once. Its record takes a place in the lane of its link ([`Pace::want`](super::pace::Pace::want))
//! and sends when it gets a turn. So all services share one budget and one order of waiting. A lane knows the service and the key of each
//! [`Waiter`](super::pace::Waiter), and no more. The Server passes the turn to the service ([`Takers`]), which finds its record by the key,
//! sends, and reports to the lane how many bytes left.
//!
//! Turns are given at two moments: after an input, on each link where it made a record want one; and when a lane is due, because its path
//! has opened again. The call is static: a turn allocates nothing and goes through no table of functions.

use crate::base::limits::CHECK_INTERVAL;
use crate::base::machine::Link;

use super::Ctx;
use super::pace::Turn;

/// Turns that may be given while one input is handled; more are given when the machine is called again, at once.
const TURNS_A_CALL: usize = 4;

/// All services that take turns.
pub trait Takers {
    /// Gives the turn to the waiter's service. The waiter has left its queue; a record that has more to send enters the lane again.
    fn turn(&mut self, ctx: &mut Ctx<'_>, turn: Turn);
}

/// Gives turns on the links where a record has wanted one since the last call.
pub fn give_wanted(ctx: &mut Ctx<'_>, takers: &mut impl Takers) {
    for link in ctx.pace.wanted() {
        give(ctx, takers, link, TURNS_A_CALL);
    }
}

/// Gives turns on the links that are due, as far as the outbox has room.
pub fn give_due(ctx: &mut Ctx<'_>, takers: &mut impl Takers) {
    for link in 0..ctx.pace.links() {
        if ctx.pace.lane(link).deadline().is_some_and(|deadline| deadline <= ctx.now) {
            give(ctx, takers, link, usize::MAX);
        }
    }
}

/// Gives turns to the waiters of a link, while its path is free.
fn give(ctx: &mut Ctx<'_>, takers: &mut impl Takers, link: Link, most: usize) {
    if !ctx.links.serves(link) {
        // Who waits goes on waiting until the link is back.
        return ctx.pace.lane(link).pause(ctx.now + CHECK_INTERVAL);
    }
    for _ in 0..most {
        if !ctx.out.has_room() {
            break;
        }
        let lane = ctx.pace.lane(link);
        let Some(turn) = lane.next(ctx.now) else { return };
        if !turn.place.is_quiet() {
            lane.served(ctx.now, turn.waited);
        }
        takers.turn(ctx, turn);
    }
    ctx.pace.lane(link).pause(ctx.now);
}

#[cfg(test)]
mod tests;
