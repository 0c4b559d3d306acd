//! What a REQUEST means and what it gets: RFC 2131, 4.3.2, as a table. Pure.
//!
//! | state      | server identifier | requested IP | ciaddr |
//! |------------|-------------------|--------------|--------|
//! | SELECTING  | must be           | must be      | zero   |
//! | INIT-REBOOT| must not          | must be      | zero   |
//! | RENEWING   | must not          | must not     | its address, unicast |
//! | REBINDING  | must not          | must not     | its address, broadcast |

use std::net::Ipv4Addr;

/// The client's state, as its REQUEST shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It picked this server's offer, or another's.
    Selecting {
        server: Ipv4Addr,
    },
    InitReboot,
    Renewing,
    Rebinding,
}

/// The state and the address that it is about; None for a REQUEST that fits no row of the table.
pub fn state(server: Option<Ipv4Addr>, requested: Option<Ipv4Addr>, ciaddr: Ipv4Addr, unicast: bool) -> Option<(State, Ipv4Addr)> {
    match (server, requested, ciaddr.is_unspecified()) {
        (Some(server), Some(requested), true) => Some((State::Selecting { server }, requested)),
        (None, Some(requested), true) => Some((State::InitReboot, requested)),
        (None, None, false) => Some((if unicast { State::Renewing } else { State::Rebinding }, ciaddr)),
        // Firmware of the field repeats the requested address, or names the server, while it has an address: what counts is ciaddr.
        (_, _, false) => Some((if unicast { State::Renewing } else { State::Rebinding }, ciaddr)),
        (_, None, true) => None,
    }
}

/// What the server knows when the REQUEST comes.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// An address by which this server is known to the client's network.
    pub head: Ipv4Addr,
    /// The address that the client's record holds, or that its number gives it here; None: no record.
    pub bound: Option<Ipv4Addr>,
    /// What it asks for is an address of the network that it is on.
    pub right_network: bool,
    /// What it asks for is a free guest address of that network: it may have been ours to give before a restart.
    pub free_guest: bool,
    pub authoritative: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ack,
    /// ACK, after the free guest address is taken for the client.
    Adopt,
    Nak,
    /// Another server's offer was picked: ours falls back.
    Withdraw,
    /// No record, no say.
    Silence,
}

pub fn request(state: State, asked: Ipv4Addr, view: View) -> Verdict {
    let bound = view.bound == Some(asked);
    match state {
        State::Selecting { server } if server != view.head => Verdict::Withdraw,
        State::Selecting { .. } if bound => Verdict::Ack,
        State::Selecting { .. } => Verdict::Nak,

        _ if !view.right_network => Verdict::Nak,
        _ if bound => Verdict::Ack,
        _ if view.bound.is_some() => Verdict::Nak,

        State::InitReboot => by_authority(view),
        // It came to us alone, so we gave the address.
        State::Renewing if view.free_guest => Verdict::Adopt,
        State::Renewing => Verdict::Nak,
        State::Rebinding if view.free_guest && view.authoritative => Verdict::Adopt,
        State::Rebinding => by_authority(view),
    }
}

fn by_authority(view: View) -> Verdict {
    if view.authoritative { Verdict::Nak } else { Verdict::Silence }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 5);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 6);
    const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    #[test]
    fn states_are_told_apart() {
        let selecting = State::Selecting { server: HEAD };
        assert_eq!(state(Some(HEAD), Some(OURS), NONE, false), Some((selecting, OURS)));
        assert_eq!(state(None, Some(OURS), NONE, false), Some((State::InitReboot, OURS)));
        assert_eq!(state(None, None, OURS, true), Some((State::Renewing, OURS)));
        assert_eq!(state(None, None, OURS, false), Some((State::Rebinding, OURS)));
        assert_eq!(state(None, Some(OTHER), OURS, false), Some((State::Rebinding, OURS)));
        assert_eq!(state(None, None, NONE, false), None);
        assert_eq!(state(Some(HEAD), None, NONE, false), None);
    }

    #[test]
    fn the_table() {
        use State::*;
        let (ours, theirs) = (Selecting { server: HEAD }, Selecting { server: OTHER });
        // state, bound, right network, free guest, authoritative -> verdict
        let rows = [
            (ours, Some(OURS), true, false, false, Verdict::Ack),
            (ours, Some(OTHER), true, false, false, Verdict::Nak),
            (ours, None, true, true, false, Verdict::Nak),
            (theirs, Some(OURS), true, false, false, Verdict::Withdraw),
            (theirs, None, true, false, true, Verdict::Withdraw),
            (InitReboot, Some(OURS), true, false, false, Verdict::Ack),
            (InitReboot, Some(OTHER), true, false, false, Verdict::Nak),
            (InitReboot, None, true, true, false, Verdict::Silence),
            (InitReboot, None, true, true, true, Verdict::Nak),
            (InitReboot, None, false, false, false, Verdict::Nak),
            (Renewing, Some(OURS), true, false, false, Verdict::Ack),
            (Renewing, Some(OTHER), true, false, false, Verdict::Nak),
            (Renewing, None, true, true, false, Verdict::Adopt),
            (Renewing, None, true, false, false, Verdict::Nak),
            (Rebinding, Some(OURS), true, false, false, Verdict::Ack),
            (Rebinding, Some(OTHER), true, false, false, Verdict::Nak),
            (Rebinding, None, true, true, false, Verdict::Silence),
            (Rebinding, None, true, true, true, Verdict::Adopt),
            (Rebinding, None, true, false, true, Verdict::Nak),
            (Rebinding, None, false, false, false, Verdict::Nak),
        ];
        for (at, bound, right_network, free_guest, authoritative, verdict) in rows {
            let view = View { head: HEAD, bound, right_network, free_guest, authoritative };
            assert_eq!(request(at, OURS, view), verdict, "{at:?} {view:?}");
        }
    }
}
