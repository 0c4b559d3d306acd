//! Machines that pass muster: the report of `muster-in`, ruled upon by the table in `roll::ruling`.
//!
//! A DISCOVER gives no number: its machine is offered the address of a vacant one, which nobody else is offered for some seconds. The REQUEST
//! that takes the offer gives the number, at the rate that the config allows: its lot is occupied, the record is put out, and the message waits;
//! when the record is on disk the guest address is left, the node's address is bound, and the ACK says so. At no moment does either address
//! belong to two.
//!
//! Where no number's address could be offered (as many offers are open as numbers may be given; whoever left the number may still use its
//! address) the offer is of a guest's address. The REQUEST for it gives the number as well, and is denied: the machine asks again, as the node that
//! it is by then. Beyond the rate it stays a guest, with a lease that it renews soon: its renewal is another REQUEST.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::bucket::Bucket;
use crate::base::log_limit::LogLimit;
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::engine::dhcp::Counter;
use crate::engine::{Ctx, lots};
use crate::roll::client::{Client, Identity};
use crate::roll::journal::Verdict;
use crate::roll::lot::{Fingerprint, Label, Lot, LotState, Uuid, Wait};
use crate::roll::plan::Number;
use crate::roll::ruling::{Reason, Ruling};
use crate::wire::dhcp::MessageType;
use crate::wire::report::{self, Report};

use super::Dhcp;
use super::addresses::numbered_address;
use super::decide::ClientState;
use super::request::ClientRequest;
use log::Level;

/// A lease that is acknowledged so long after the number was given was asked for by a machine that has come back, in seconds.
const SETTLED: u64 = 60;
/// What a minute's worth of new numbers is divided by: so much of it may come at once.
const BURST: u32 = 5;

#[derive(Default)]
pub struct NumberPace {
    /// When as many new numbers may be given at once as ever.
    full: Instant,
    delayed: LogLimit,
}

/// At most so many new numbers a minute.
fn pace(per_minute: u32) -> Bucket {
    Bucket { burst: (per_minute / BURST).max(1), every: Duration::from_secs(60) / per_minute.max(1) }
}

impl Dhcp {
    /// Takes in the report that a message carries, if it does, and rules on its machine.
    pub(super) fn report(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) {
        let Some(bytes) = asked.message.option(ctx.config.dhcp.report_option) else { return };
        let Some(report) = Report::parse(bytes) else { return ctx.stats.count(Counter::ReportMalformed) };
        let Identity::Mac(mac) = asked.identity else { return };
        let Some(key) = self.admit(ctx, asked) else { return };
        let fingerprint = fingerprint(mac, &report, asked);
        let verdict = match &report.verdict {
            report::ReportVerdict::Untested => Verdict::Untested,
            report::ReportVerdict::Passed => Verdict::Passed,
            report::ReportVerdict::Failed(test) => Verdict::Failed(Label::new(test.as_str().as_bytes())),
        };
        let Some(client) = ctx.roll.get_mut(key) else { return };
        let news = client.reports(asked.message.header.xid, fingerprint, verdict);
        let say = |level, ctx: &mut Ctx<'_>, line: std::fmt::Arguments<'_>| ctx.roll.say(ctx.now, &asked.identity, level, line);
        if let (true, Verdict::Failed(test), Some(number)) = (news, verdict, ctx.roll.number_of(&asked.identity)) {
            say(Level::Warn, ctx, format_args!("{number} ({mac}): its test {test} failed (muster why {number})"));
        }
        match lots::rule(ctx, key, asked.network, false) {
            // It is given to whom takes the offer.
            Ruling::Enlist(_) | Ruling::Known(_) => {}
            // What it may not record now it shows again.
            Ruling::Learn(_) if !ctx.roll.may_record(ctx.now, &asked.identity, false) => {}
            Ruling::Learn(number) => match lots::learn(ctx, number, &fingerprint) {
                Ok(()) => say(Level::Info, ctx, format_args!("{number}: hardware inventory updated:{fingerprint}")),
                Err(trouble) => say(Level::Warn, ctx, format_args!("{number}: hardware inventory not updated: {trouble}")),
            },
            // Told as its boot began.
            Ruling::Guest(Reason::Retired(_)) => {}
            Ruling::Guest(Reason::Conflict(conflict)) => {
                ctx.stats.count(Counter::NumberConflict);
                if news {
                    say(Level::Warn, ctx, format_args!("{mac}: {conflict}"));
                }
            }
            Ruling::Guest(reason) if news => say(Level::Info, ctx, format_args!("{mac}: remains a guest: {reason}")),
            Ruling::Guest(_) => {}
        }
    }

    /// The address of the number that a machine gets when it takes this offer; none where it gets no number, or is to be a guest until then.
    pub(super) fn offer_number(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, asked: &ClientRequest<'_>) -> Option<Ipv4Addr> {
        let discover = asked.message_type() == Some(MessageType::Discover);
        if !discover || !passed(ctx, key, asked) || ctx.roll.get(key)?.doubt.put_away() > ctx.now {
            return None;
        }
        ctx.roll.offers.settle(ctx.now);
        let kept = ctx.roll.get(key)?.prospect.offered().filter(|&number| ctx.roll.offers.is_made(ctx.now, number, key));
        let open = ctx.roll.offers.count();
        let number = match kept.filter(|&number| is_open(ctx, number, key)) {
            Some(number) => number,
            None if open >= pace(ctx.config.new_numbers).room(ctx.now, self.passing.full) => return None,
            None => match lots::rule_beside(ctx, key, asked.network, false, ctx.roll.offers.bits()) {
                Ruling::Enlist(number) => number,
                _ => return None,
            },
        };
        // Whoever was there before may run on: the node that asks anew waits for the answer to a probe.
        let left = ctx.roll.lots().lot(number).is_none_or(|lot| !lot.retired.is_empty());
        let guests = ctx.roll.pools.get(asked.network).and_then(Option::as_ref).is_some_and(|pool| pool.free() > 0);
        let address = numbered_address(ctx, Some(number), asked.network).filter(|&address| ctx.roll.at_address(address).is_none())?;
        if (left && (guests || ctx.roll.get(key)?.address().is_some())) || !ctx.roll.offers.make(ctx.now, number, key) {
            return None;
        }
        ctx.roll.get_mut(key)?.prospect.offers(number);
        Some(address)
    }

    /// Gives a machine that passed its number, if this REQUEST takes what we offered it or renews what we gave it.
    pub(super) fn give_number(
        &mut self,
        ctx: &mut Ctx<'_>,
        key: Key<Client>,
        asked: &ClientRequest<'_>,
        state: ClientState,
        address: Ipv4Addr,
    ) {
        if asked.held || !passed(ctx, key, asked) || !took_our_offer(ctx, key, state, address) {
            return;
        }
        let Some(number) = number_of(ctx, key, asked.network) else { return };
        let Some(client) = ctx.roll.get(key) else { return };
        let (mac, fingerprint) = (client.mac(), *client.evidence.fingerprint());
        let pace = pace(ctx.config.new_numbers);
        if pace.room(ctx.now, self.passing.full) == 0 {
            return self.delay(ctx, key, mac);
        }
        match lots::enlist(ctx, number, &fingerprint) {
            Ok(()) => {
                pace.take(ctx.now, &mut self.passing.full);
                ctx.roll.offers.withdraw(number);
                log::info!("{mac}: passed muster, is {number} from now on");
            }
            Err(trouble) => {
                let line = format_args!("{mac}: passed muster, but did not become {number}: {trouble}");
                ctx.roll.say(ctx.now, &asked.identity, Level::Warn, line);
            }
        }
    }

    /// Its number is given later.
    fn delay(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, mac: Mac) {
        ctx.stats.count(Counter::NumberDelayed);
        if let Some(client) = ctx.roll.get_mut(key) {
            client.prospect.delays();
        }
        if let Some(more) = self.passing.delayed.allow(ctx.now) {
            let rate = ctx.config.new_numbers;
            log::warn!("{mac}: passed muster, is a guest until numbers are available (cluster.new-numbers = {rate} a minute{more})");
        }
    }
}

/// Whether a machine without a number said in this transaction that it has passed its test.
fn passed(ctx: &Ctx<'_>, key: Key<Client>, asked: &ClientRequest<'_>) -> bool {
    ctx.roll.get(key).is_some_and(|client| client.number().is_none() && client.evidence.passed_in(asked.message.header.xid))
}

/// Whether a REQUEST is of a machine that heard us: it names us and the address that we offered to it, or it has its address from us.
fn took_our_offer(ctx: &Ctx<'_>, key: Key<Client>, state: ClientState, address: Ipv4Addr) -> bool {
    let Some(client) = ctx.roll.get(key) else { return false };
    let number = client.prospect.offered().filter(|&number| ctx.roll.offers.is_made(ctx.now, number, key));
    let offered = number.is_some_and(|number| ctx.roll.plan.address(number) == Some(address));
    match state {
        ClientState::Selecting { server } => {
            let ours = ctx.config.is_own(server);
            ours && (offered || client.address() == Some(address))
        }
        ClientState::InitReboot | ClientState::Renewing | ClientState::Rebinding => client.is_leased() && client.address() == Some(address),
    }
}

/// Whether a number that was offered to a machine may still be given to it.
fn is_open(ctx: &Ctx<'_>, number: Number, key: Key<Client>) -> bool {
    let Some(lot) = ctx.roll.lots().lot(number) else { return false };
    let named = |mac| ctx.roll.get(key).is_some_and(|client| client.evidence.fingerprint().macs.contains(mac));
    match lot.state {
        LotState::Vacant | LotState::Reserved(Wait::Next) => true,
        LotState::Reserved(Wait::Mac(mac)) => named(mac),
        LotState::Reserved(Wait::Operator) | LotState::Occupied => false,
    }
}

/// The number that a machine gets now: the one that it was offered, else one that nobody was offered, else one that somebody was.
fn number_of(ctx: &mut Ctx<'_>, key: Key<Client>, network: usize) -> Option<Number> {
    let Ruling::Enlist(any) = lots::rule(ctx, key, network, false) else { return None };
    ctx.roll.offers.settle(ctx.now);
    let kept =
        ctx.roll.get(key)?.prospect.offered().filter(|&number| ctx.roll.offers.is_made(ctx.now, number, key) && is_open(ctx, number, key));
    let here = kept.filter(|&number| numbered_address(ctx, Some(number), network).is_some());
    let free = || match lots::rule_beside(ctx, key, network, false, ctx.roll.offers.bits()) {
        Ruling::Enlist(number) => Some(number),
        _ => None,
    };
    here.or_else(free).or(Some(any))
}

/// A node's lease was acknowledged: some time after it was given its number that tells that its machine is there.
pub(super) fn heard_again(ctx: &mut Ctx<'_>, key: Key<Client>) {
    let settled = |lot: &&Lot| lot.unseen && ctx.unix >= lot.since + SETTLED;
    if let Some(number) = lots::own_address(ctx.roll, key).filter(|&number| ctx.roll.lots().lot(number).filter(settled).is_some()) {
        lots::came_up(ctx, number);
    }
}

/// A MAC speaks by ARP under the address that this client holds: its own, once it was acknowledged.
pub(super) fn heard_by_arp(ctx: &mut Ctx<'_>, key: Key<Client>, mac: Mac) {
    if let Some(number) = lots::own_address(ctx.roll, key).filter(|_| ctx.roll.get(key).is_some_and(|client| client.mac() == mac)) {
        lots::came_up(ctx, number);
    }
}

/// A machine that was replaced and boots again is refused its number by name, whether it shows anything of itself or not.
pub(super) fn refuse_retired(ctx: &mut Ctx<'_>, key: Key<Client>) {
    let Some(mac) = ctx.roll.get(key).filter(|client| client.number().is_none()).map(|client| client.mac()) else { return };
    if let Some(number) = ctx.roll.lots().retired_from(mac) {
        let line = format_args!("{mac}: is a guest now, was {number} until it was taken out or replaced (muster guest enlist {mac})");
        ctx.roll.say(ctx.now, &Identity::Mac(mac), Level::Warn, line);
    }
}

/// What a machine shows of itself: the MAC that asks first, then the others.
fn fingerprint(mac: Mac, report: &Report, asked: &ClientRequest<'_>) -> Fingerprint {
    Fingerprint {
        macs: [mac].into_iter().chain(report.macs.as_slice().iter().copied()).collect(),
        uuid: report.uuid.and_then(Uuid::new),
        serial: report.serial.map_or(Label::default(), |serial| Label::new(serial.as_str().as_bytes())),
        port: asked.message.relay_agent_info().and_then(circuit).unwrap_or_default(),
    }
}

/// The circuit id of a relay agent's information (RFC 3046, 3.1): the switch port, as text or in hexadecimal digits.
fn circuit(info: &[u8]) -> Option<Label> {
    let mut rest = info;
    while let [code, len, tail @ ..] = rest {
        let value = tail.get(..usize::from(*len))?;
        if *code == 1 {
            let text = value.iter().all(u8::is_ascii_graphic);
            return Some(if text { Label::new(value) } else { hexadecimal(value) });
        }
        rest = tail.get(usize::from(*len)..)?;
    }
    None
}

fn hexadecimal(bytes: &[u8]) -> Label {
    let mut digits = [0u8; Label::MAX];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).map_or(b'0', |c| c as u8);
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    Label::new(digits.get(..2 * bytes.len().min(Label::MAX / 2)).unwrap_or(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_relays() {
        assert_eq!(circuit(b"\x02\x02ab\x01\x06eth1/3").map(|port| port.to_string()), Some("eth1/3".to_string()));
        assert_eq!(circuit(b"\x01\x04\x00\x17\x01\x09").map(|port| port.to_string()), Some("00170109".to_string()));
        assert_eq!((circuit(b"\x01\x04\x00"), circuit(b"\x02\x00"), circuit(b"\x01")), (None, None, None));
        assert_eq!(hexadecimal(&[0xab; 40]).as_str().len(), 32);
    }
}
