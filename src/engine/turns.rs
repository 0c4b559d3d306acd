//! Turns: who may send now, of all services.
//!
//! A service that sends much does not send when it is asked, nor when it has something: it takes a place in its link's lane
//! ([`Pace::want`]), and sends when it is given a turn. So all services share one budget, whatever they speak, and wait in one order. A lane
//! knows a waiter's service and key, and no more ([`Waiter`](super::pace::Waiter)); the Server dispatches a turn to the service
//! ([`Takers`]), which finds its record by the key, sends, and tells the lane how many bytes left.
//!
//! Turns are given when an input has been dealt with, on the links where it made somebody want one, and when a lane is due: its way has
//! opened meanwhile. The call is static: a turn costs no allocation and no table of functions.

use crate::base::machine::Link;

use super::Ctx;
use super::pace::Turn;

/// Turns that may be given while one input is handled; more are given when the machine is called again, at once.
const TURNS_A_CALL: usize = 4;

/// All services that take turns.
pub trait Takers {
    /// Gives the service behind a waiter its turn. The waiter stands nowhere now: who wants more enters the lane again.
    fn turn(&mut self, ctx: &mut Ctx<'_>, turn: Turn);
}

/// Gives turns on the links on which somebody has wanted one since the last were given.
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

/// Gives turns to those who wait on a link, while its way is free.
fn give(ctx: &mut Ctx<'_>, takers: &mut impl Takers, link: Link, most: usize) {
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
