//! Who may have which address, and when it may be offered, as tables. Pure.
//!
//! A machine has a right to the address of its number. Where that is put away, or belongs to another machine for the time being, it keeps the
//! guest address that it has; where it has none, it gets one.

use std::net::Ipv4Addr;

use crate::base::time::Instant;

/// Who holds an address, as seen by the machine that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    Itself,
    /// Another machine, or another NIC of the node, that leaves it: see [`gives_way`].
    GivesWay,
    /// Another one that keeps it.
    Keeps,
}

/// The holder of a number's address, when the machine that has the number now, or another NIC of the same node, asks for it.
#[derive(Clone, Copy, Debug)]
pub struct HolderView {
    /// The holder's number has another address by now: a reload has moved it, and it learns that when it renews.
    pub moved: bool,
    /// It is a NIC of the same node.
    pub same_node: bool,
    /// What is on record of it came in another machine's frames, and whoever asks speaks for itself.
    pub forged: bool,
    /// It loads nothing, and has not been heard for a while.
    pub silent: bool,
    pub leased: bool,
    /// Firmware asks, or a boot program: the machine starts again.
    pub boots: bool,
}

/// | moved | same node | forged | boots | silent | leased | gives way |
/// |-------|-----------|--------|-------|--------|--------|-----------|
/// | yes   |           |        |       |        |        | no        |
/// |       | yes       | yes    |       |        |        | yes       |
/// |       | yes       | no     | yes   | yes    |        | yes       |
/// |       | yes       | no     | otherwise      ||        | no        |
/// |       | no        |        |       | yes    |        | yes       |
/// |       | no        |        |       | no     | no     | yes       |
/// |       | no        |        |       | no     | yes    | no        |
///
/// Whether a silent one is still there, ARP tells.
pub fn gives_way(holder: HolderView) -> bool {
    match holder {
        HolderView { moved: true, .. } => false,
        HolderView { same_node: true, forged, boots, silent, .. } => forged || boots && silent,
        HolderView { silent, leased, .. } => silent || !leased,
    }
}

/// What a machine could have on a network.
#[derive(Clone, Copy, Debug)]
pub struct RightView {
    /// The address that its number gives it there, and who holds that.
    pub own: Option<(Ipv4Addr, Holder)>,
    /// The machine has declined it, or another one was found to use it.
    pub put_away: bool,
    /// The guest address that it has.
    pub guest: Option<Ipv4Addr>,
}

/// | number's address | put away | held by     | it has a right to |
/// |------------------|----------|-------------|-------------------|
/// | yes              | no       | one that keeps it | the guest address that it has |
/// | yes              | no       | otherwise   | its number's      |
/// | yes              | yes      |             | the guest address that it has |
/// | no               |          |             | the guest address that it has |
pub fn right(view: RightView) -> Option<Ipv4Addr> {
    match view {
        RightView { own: Some((address, Holder::Nobody | Holder::Itself | Holder::GivesWay)), put_away: false, .. } => Some(address),
        RightView { guest, .. } => guest,
    }
}

/// What is known of the address that a machine has a right to, when it asks for an offer.
#[derive(Clone, Copy, Debug)]
pub struct OfferView {
    pub holder: Holder,
    /// Its number was another machine's, which may run on.
    pub replaced: bool,
    /// Its node has more NICs than one.
    pub several_nics: bool,
    /// The link can be asked by ARP.
    pub probes: bool,
    /// When the answer to a probe that is out can come no more.
    pub vetted_at: Option<Instant>,
}

/// When an address may be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vetting {
    Now,
    At(Instant),
    /// Who has it is asked by ARP, and the offer leaves at once: an answer comes before the client's REQUEST does.
    Ask,
    /// Who has it is asked by ARP, and the offer waits for the answer.
    AskAndWait,
}

/// | probes | held by        | replaced | NICs    | offer                        |
/// |--------|----------------|----------|---------|------------------------------|
/// | yes    | another one    |          |         | ask and wait                 |
/// | yes    | nobody         | yes      |         | ask and wait                 |
/// | yes    | nobody         | no       | several | ask, offer at once           |
/// | otherwise |             |          |         | when the probe that is out has ended |
///
/// After a restart it is not on record which NIC of a node had its address: the other one's answer comes before a REQUEST does. A NIC that is on
/// record, and silent, is waited for; so is a machine that was replaced.
pub fn vetting(view: OfferView) -> Vetting {
    match view {
        OfferView { probes: true, holder: Holder::GivesWay | Holder::Keeps, .. } => Vetting::AskAndWait,
        OfferView { probes: true, holder: Holder::Nobody, replaced: true, .. } => Vetting::AskAndWait,
        OfferView { probes: true, holder: Holder::Nobody, several_nics: true, .. } => Vetting::Ask,
        OfferView { vetted_at, .. } => vetted_at.map_or(Vetting::Now, Vetting::At),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 5);
    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 250, 5);

    #[test]
    fn who_gives_way() {
        let other = HolderView { moved: false, same_node: false, forged: false, silent: false, leased: true, boots: false };
        let nic = HolderView { same_node: true, ..other };
        let rows = [
            (HolderView { moved: true, silent: true, leased: false, ..other }, false),
            (HolderView { moved: true, forged: true, ..nic }, false),
            (nic, false),
            (HolderView { forged: true, ..nic }, true),
            (HolderView { boots: true, ..nic }, false),
            (HolderView { silent: true, ..nic }, false),
            (HolderView { silent: true, boots: true, ..nic }, true),
            (HolderView { leased: false, ..nic }, false),
            (other, false),
            (HolderView { forged: true, boots: true, ..other }, false),
            (HolderView { silent: true, ..other }, true),
            (HolderView { leased: false, ..other }, true),
        ];
        for (holder, gives) in rows {
            assert_eq!(gives_way(holder), gives, "{holder:?}");
        }
    }

    #[test]
    fn what_a_machine_has_a_right_to() {
        let rows = [
            (Some(Holder::Nobody), false, Some(OWN)),
            (Some(Holder::Itself), false, Some(OWN)),
            (Some(Holder::GivesWay), false, Some(OWN)),
            (Some(Holder::Keeps), false, Some(GUEST)),
            (Some(Holder::Itself), true, Some(GUEST)),
            (None, false, Some(GUEST)),
        ];
        for (holder, put_away, gets) in rows {
            let view = RightView { own: holder.map(|holder| (OWN, holder)), put_away, guest: Some(GUEST) };
            assert_eq!(right(view), gets, "{view:?}");
            let bare = RightView { guest: None, ..view };
            assert_eq!(right(bare), gets.filter(|&address| address == OWN), "{bare:?}");
        }
    }

    #[test]
    fn when_an_address_may_be_offered() {
        let (at, never) = (Some(Instant::from_millis(7)), None);
        let view = OfferView { holder: Holder::Itself, replaced: false, several_nics: false, probes: true, vetted_at: never };
        let rows = [
            (view, Vetting::Now),
            (OfferView { vetted_at: at, ..view }, Vetting::At(Instant::from_millis(7))),
            (OfferView { replaced: true, several_nics: true, ..view }, Vetting::Now),
            (OfferView { holder: Holder::Nobody, ..view }, Vetting::Now),
            (OfferView { holder: Holder::Nobody, several_nics: true, vetted_at: at, ..view }, Vetting::Ask),
            (OfferView { holder: Holder::Nobody, several_nics: true, replaced: true, ..view }, Vetting::AskAndWait),
            (OfferView { holder: Holder::GivesWay, vetted_at: at, ..view }, Vetting::AskAndWait),
            (OfferView { holder: Holder::Keeps, ..view }, Vetting::AskAndWait),
            (OfferView { holder: Holder::GivesWay, probes: false, ..view }, Vetting::Now),
            (
                OfferView { holder: Holder::Nobody, replaced: true, probes: false, vetted_at: at, ..view },
                Vetting::At(Instant::from_millis(7)),
            ),
        ];
        for (view, when) in rows {
            assert_eq!(vetting(view), when, "{view:?}");
        }
    }
}
