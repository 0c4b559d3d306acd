//! Whose a MAC address, an IP address, a serial number, a UUID or a switch port is.

use std::net::Ipv4Addr;

use crate::base::addr::Mac;
use crate::roll::client::{Client, Identity};
use crate::roll::lot::{Fingerprint, Uuid};
use crate::roll::plan::Number;
use crate::wire::control::{FoundPage, FoundRow};

use super::{Moment, PAGE_GUESTS, PAGE_LOTS};

/// What is looked for: all that one text can mean.
struct Wanted {
    mac: Option<Mac>,
    address: Option<Ipv4Addr>,
    number: Option<Number>,
    uuid: Option<Uuid>,
    /// Of serial numbers and switch ports, in small letters: a part is enough.
    word: String,
}

impl Wanted {
    fn of(moment: &Moment<'_>, text: &str) -> Wanted {
        let text = text.trim();
        let names = moment.roll.plan.names();
        let (short, domain) = text.split_once('.').unwrap_or((text, names.domain()));
        let digits = ["node", names.prefix()].iter().find_map(|prefix| short.strip_prefix(prefix)).unwrap_or(short);
        let number = digits.parse().ok().filter(|_| domain.eq_ignore_ascii_case(names.domain())).map(Number);
        let address: Option<Ipv4Addr> = text.parse().ok();
        Wanted {
            mac: text.parse().ok(),
            address,
            number: number.filter(|number| number.0 < moment.roll.plan.nodes()),
            uuid: text.parse().ok(),
            word: text.to_ascii_lowercase(),
        }
    }

    /// What of a machine is meant, by name and value.
    fn in_fingerprint(&self, shown: &Fingerprint) -> Option<(&'static str, String)> {
        if let Some(mac) = self.mac.filter(|mac| shown.macs.as_slice().contains(mac)) {
            return Some(("mac", mac.to_string()));
        }
        if let Some(uuid) = self.uuid.filter(|uuid| shown.uuid == Some(*uuid)) {
            return Some(("uuid", uuid.to_string()));
        }
        let labels = [("serial", shown.serial), ("switch port", shown.port)];
        let mut meant = labels.iter().filter(|(_, label)| !label.is_empty() && !self.word.is_empty());
        let found = meant.find(|(_, label)| label.as_str().to_ascii_lowercase().contains(&self.word));
        found.map(|(name, label)| (*name, label.to_string()))
    }
}

impl Moment<'_> {
    /// A page of what a text can mean: first of the numbers, from `from` on; behind them of the machines without one.
    pub fn find(&self, text: &str, from: u32) -> FoundPage {
        let wanted = Wanted::of(self, text);
        let (nodes, capacity) = (self.roll.plan.nodes(), self.roll.capacity() as u32);
        let all = nodes.saturating_add(capacity);
        let end = from.saturating_add(PAGE_LOTS).min(all);
        let mut rows = Vec::new();
        for at in from.min(end)..end {
            if rows.len() == PAGE_GUESTS as usize {
                return FoundPage { rows, next: Some(at) };
            }
            let row = if at < nodes { self.found_node(&wanted, Number(at)) } else { self.found_guest(&wanted, at - nodes) };
            rows.extend(row);
        }
        FoundPage { rows, next: (end < all).then_some(end) }
    }

    fn found_node(&self, wanted: &Wanted, number: Number) -> Option<FoundRow> {
        let lot = self.roll.lots().lot(number);
        let planned = self.roll.plan.address(number);
        let records = || {
            let macs = lot.map_or(&[][..], |lot| lot.fingerprint.macs.as_slice());
            macs.iter().filter_map(|mac| self.roll.find(&Identity::Mac(*mac)).and_then(|key| self.roll.get(key)))
        };
        let named = wanted.number.filter(|wanted| *wanted == number).map(|_| ("number", number.0.to_string()));
        let lives = || records().any(|client| client.address().is_some() && client.address() == wanted.address);
        let at = wanted.address.filter(|address| planned == Some(*address) || lives()).map(|address| ("address", address.to_string()));
        let shown = || wanted.in_fingerprint(&lot?.fingerprint);
        let retired = || {
            let mac = wanted.mac.filter(|mac| lot.is_some_and(|lot| lot.retired.as_slice().contains(mac)))?;
            Some(("retired mac", mac.to_string()))
        };
        let (what, value) = named.or(at).or_else(shown).or_else(retired)?;
        let speaker = records().max_by_key(|client| client.boot.since());
        let kind = lot.map_or("vacant".into(), |lot| super::lot(lot).kind.name().to_string());
        Some(FoundRow {
            number: Some(number.0),
            name: self.roll.plan.names().of(number).to_string(),
            id: speaker.map(|client| client.identity().to_string()).unwrap_or_default(),
            address: speaker.and_then(Client::address).or(planned),
            stage: speaker.map_or(kind, |client| self.stage(client)),
            what: what.into(),
            value,
        })
    }

    fn found_guest(&self, wanted: &Wanted, slot: u32) -> Option<FoundRow> {
        let client = self.roll.at_slot(slot as usize).filter(|client| client.number().is_none())?;
        let own = wanted.mac.filter(|mac| client.identity() == Identity::Mac(*mac)).map(|mac| ("mac", mac.to_string()));
        let at = wanted.address.filter(|address| client.address() == Some(*address)).map(|address| ("address", address.to_string()));
        let (what, value) = own.or(at).or_else(|| wanted.in_fingerprint(client.evidence.fingerprint()))?;
        Some(FoundRow {
            number: None,
            name: "guest".into(),
            id: client.identity().to_string(),
            address: client.address(),
            stage: self.stage(client),
            what: what.into(),
            value,
        })
    }
}
