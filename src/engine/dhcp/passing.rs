//! Machines that pass muster: the report of `muster-in`, ruled upon by the table in `roll::ruling`.
//!
//! The step that numbers a machine is one: its lot is occupied, the record is put out, and the message waits; when the record is on disk
//! the message is taken up again, the guest address is left, the node's address is bound, and the reply says so. At no moment does either
//! address belong to two.

use crate::base::addr::Mac;
use crate::base::slab::Key;
use crate::base::stats::Counter;
use crate::engine::{Ctx, lots};
use crate::roll::client::{Client, Identity};
use crate::roll::journal::Verdict;
use crate::roll::lot::{Label, Papers, Uuid};
use crate::roll::ruling::{Reason, Ruling};
use crate::wire::report::{self, Report};

use super::Dhcp;
use super::reply::Asked;
use log::Level;

impl Dhcp {
    /// Takes in the report that a message carries, if it does, and rules on its machine.
    pub(super) fn report(&mut self, ctx: &mut Ctx<'_>, asked: &Asked<'_>) {
        let Some(bytes) = asked.message.option(ctx.config.report_option) else { return };
        let Some(report) = Report::parse(bytes) else { return ctx.stats.count(Counter::ReportMalformed) };
        let Identity::Mac(mac) = asked.identity else { return };
        let Some(key) = self.admit(ctx, asked) else { return };
        let papers = papers(mac, &report, asked);
        let verdict = match &report.verdict {
            report::Verdict::Untested => Verdict::Untested,
            report::Verdict::Passed => Verdict::Passed,
            report::Verdict::Failed(test) => Verdict::Failed(Label::new(test.as_str().as_bytes())),
        };
        let Some(client) = ctx.roll.get_mut(key) else { return };
        let news = (client.papers, client.verdict) != (papers, verdict);
        (client.papers, client.verdict) = (papers, verdict);
        // The next record of its lease tells it.
        client.news |= news;
        let say = |level, ctx: &mut Ctx<'_>, line: std::fmt::Arguments<'_>| ctx.roll.say(ctx.now, &asked.identity, level, line);
        match lots::rule(ctx, key, asked.network, false) {
            Ruling::Enlist(number) => match lots::enlist(ctx, number, &papers, false) {
                Ok(()) => log::info!("{mac} passed muster: it is {number} from now on"),
                Err(trouble) => say(Level::Warn, ctx, format_args!("{mac} passed muster but could not become {number}: {trouble}")),
            },
            // What it may not record now it shows again.
            Ruling::Learn(_) if !ctx.roll.may_record(ctx.now, &asked.identity, false) => {}
            Ruling::Learn(number) => match lots::learn(ctx, number, &papers) {
                Ok(()) => say(Level::Info, ctx, format_args!("{number} showed itself anew:{papers}")),
                Err(trouble) => say(Level::Warn, ctx, format_args!("what {number} showed of itself is not kept: {trouble}")),
            },
            // Told as its boot began.
            Ruling::Guest(Reason::Retired(_)) => {}
            Ruling::Guest(reason) if news => say(Level::Info, ctx, format_args!("{mac} stays as it is: it {reason}")),
            Ruling::Known(_) | Ruling::Guest(_) => {}
        }
    }
}

/// A machine that was replaced and boots again is refused its number by name, whether it shows anything of itself or not.
pub(super) fn refuse_retired(ctx: &mut Ctx<'_>, key: Key<Client>) {
    let Some(mac) = ctx.roll.get(key).filter(|client| client.number.is_none()).map(|client| client.mac) else { return };
    if let Some(number) = ctx.roll.street().retired_from(mac) {
        let line = format_args!("{mac} was {number} until it was taken out: it is a guest now (muster guest enlist {mac} takes it back)");
        ctx.roll.say(ctx.now, &Identity::Mac(mac), Level::Warn, line);
    }
}

/// What a machine shows of itself: the MAC that asks first, then the others.
fn papers(mac: Mac, report: &Report, asked: &Asked<'_>) -> Papers {
    Papers {
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
