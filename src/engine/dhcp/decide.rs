//! What a REQUEST means and what it gets: RFC 2131, 4.3.2, as a table. Pure.
//!
//! | state      | server identifier | requested IP | ciaddr |
//! |------------|-------------------|--------------|--------|
//! | SELECTING  | must be           | must be      | zero   |
//! | INIT-REBOOT| must not          | must be      | zero   |
//! | RENEWING   | must not          | must not     | its address, unicast |
//! | REBINDING  | must not          | must not     | its address, broadcast or relayed |
//!
//! Beside it stand the tables of what is believed: [`licence`] of messages by the way that they came, [`claim`] of ARP.

use std::net::Ipv4Addr;

use crate::wire::dhcp::MessageType;

/// The client's state, as its REQUEST shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// It picked this server's offer, or another's.
    Selecting {
        server: Ipv4Addr,
    },
    InitReboot,
    Renewing,
    Rebinding,
}

/// The state and the address that it is about; None for a REQUEST that fits no row of the table.
pub fn state(server: Option<Ipv4Addr>, requested: Option<Ipv4Addr>, ciaddr: Ipv4Addr, unicast: bool) -> Option<(ClientState, Ipv4Addr)> {
    match (server, requested, ciaddr.is_unspecified()) {
        (Some(server), Some(requested), true) => Some((ClientState::Selecting { server }, requested)),
        (None, Some(requested), true) => Some((ClientState::InitReboot, requested)),
        (None, None, false) => Some((if unicast { ClientState::Renewing } else { ClientState::Rebinding }, ciaddr)),
        // Firmware of the field repeats the requested address, or names the server, while it has an address: what counts is ciaddr.
        (_, _, false) => Some((if unicast { ClientState::Renewing } else { ClientState::Rebinding }, ciaddr)),
        (_, None, true) => None,
    }
}

/// What the server knows when the REQUEST comes.
#[derive(Clone, Copy, Debug)]
pub struct RequestView {
    /// The server that a SELECTING client names is this one, by any of its addresses.
    pub ours: bool,
    /// A NAK would reach the client: it is broadcast on its link, or by its relay.
    pub reaches: bool,
    /// The address that the client's record holds, or that its number gives it here; None: no record.
    pub bound: Option<Ipv4Addr>,
    /// What it asks for is an address of the network that it is on.
    pub right_network: bool,
    /// What it asks for is a free guest address of that network: it may have been ours to give before a restart.
    pub free_guest: bool,
    /// An offer of the daemon before this one may still be taken.
    pub earlier_offers: bool,
    pub authoritative: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestDecision {
    Ack,
    /// ACK, after the free guest address is taken for the client.
    Adopt,
    Nak,
    /// Another server's offer was picked: ours falls back.
    Withdraw,
    /// No record, no say.
    Silence,
}

pub fn request(state: ClientState, asked: Ipv4Addr, view: RequestView) -> RequestDecision {
    match by_state(state, asked, view) {
        RequestDecision::Nak if !view.reaches => RequestDecision::Silence,
        verdict => verdict,
    }
}

fn by_state(state: ClientState, asked: Ipv4Addr, view: RequestView) -> RequestDecision {
    let bound = view.bound == Some(asked);
    match state {
        ClientState::Selecting { .. } if !view.ours => RequestDecision::Withdraw,
        ClientState::Selecting { .. } if bound => RequestDecision::Ack,
        ClientState::Selecting { .. } if view.bound.is_none() && view.free_guest && view.earlier_offers => RequestDecision::Adopt,
        ClientState::Selecting { .. } => RequestDecision::Nak,

        _ if !view.right_network => RequestDecision::Nak,
        _ if bound => RequestDecision::Ack,
        _ if view.bound.is_some() => RequestDecision::Nak,

        ClientState::InitReboot => by_authority(view),
        // It came to us alone, so we gave the address.
        ClientState::Renewing if view.free_guest => RequestDecision::Adopt,
        ClientState::Renewing => RequestDecision::Nak,
        ClientState::Rebinding if view.free_guest && view.authoritative => RequestDecision::Adopt,
        ClientState::Rebinding => by_authority(view),
    }
}

fn by_authority(view: RequestView) -> RequestDecision {
    if view.authoritative { RequestDecision::Nak } else { RequestDecision::Silence }
}

/// Whose word a message is: see `suspect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It came in a frame of the machine's own MAC, or the way by which the machine got what it has.
    Own,
    /// It came another way, and the machine that it names has nothing to lose.
    Harmless,
    /// It came another way, and the machine that it names holds an address.
    Strange,
}

/// What a message may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Licence {
    Everything,
    /// The reply repeats what the machine has. Nothing changes but the end of its lease.
    Repeat,
    Nothing,
}

/// | message            | own word   | harmless   | strange |
/// |--------------------|------------|------------|---------|
/// | DISCOVER, REQUEST  | everything | everything | repeat  |
/// | BOOTP              | everything | everything | nothing |
/// | INFORM             | everything | everything | repeat  |
/// | RELEASE, DECLINE   | everything | nothing    | nothing |
pub fn licence(kind: Option<MessageType>, word: Word) -> Licence {
    match (kind, word) {
        (_, Word::Own) => Licence::Everything,
        (Some(MessageType::Release | MessageType::Decline), _) => Licence::Nothing,
        (_, Word::Harmless) => Licence::Everything,
        (None, Word::Strange) => Licence::Nothing,
        (_, Word::Strange) => Licence::Repeat,
    }
}

/// What the server knows when somebody claims an address by ARP that it could give, or has given.
#[derive(Clone, Copy, Debug)]
pub struct ClaimView {
    /// The address is this machine's: it holds it, or it is leased to another one.
    pub settled: bool,
    /// A probe has asked for it within its time.
    pub asked: bool,
    /// The machine answers for many: a proxy.
    pub proxy: bool,
    /// It is the address of a number, and was not declined.
    pub numbered: bool,
    /// The MAC is known to the lot table: a node's, or one that was taken out.
    pub known: bool,
    /// Nobody holds it.
    pub free: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimDecision {
    Nothing,
    /// A free address is probed again, before it is given.
    LookAgain,
    /// The answer is not believed, and logged.
    Doubted,
    /// Another machine uses the address: it is not given for a while.
    Conflict,
}

/// | settled | asked | who        | address            | claim     |
/// |---------|-------|------------|--------------------|-----------|
/// | yes     |       |            |                    | nothing   |
/// |         | no    |            | free               | look again|
/// |         | no    |            | held               | nothing   |
/// |         | yes   | a proxy    |                    | doubted   |
/// |         | yes   | not known  | a number's         | doubted   |
/// |         | yes   | known      | a number's         | conflict  |
/// |         | yes   | anybody    | a guest's, declined| conflict  |
///
/// A number's address is probed to find the other NICs of its machine, or the machine that was replaced: nobody else's answer counts, so that no
/// frame of a stranger's makes a node a guest. Who has a node's address by mistake is found when the node declines it.
pub fn claim(view: ClaimView) -> ClaimDecision {
    match view {
        ClaimView { settled: true, .. } => ClaimDecision::Nothing,
        ClaimView { asked: false, free: true, .. } => ClaimDecision::LookAgain,
        ClaimView { asked: false, .. } => ClaimDecision::Nothing,
        ClaimView { proxy: true, .. } => ClaimDecision::Doubted,
        ClaimView { numbered: true, known: false, .. } => ClaimDecision::Doubted,
        _ => ClaimDecision::Conflict,
    }
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
        let selecting = ClientState::Selecting { server: HEAD };
        assert_eq!(state(Some(HEAD), Some(OURS), NONE, false), Some((selecting, OURS)));
        assert_eq!(state(None, Some(OURS), NONE, false), Some((ClientState::InitReboot, OURS)));
        assert_eq!(state(None, None, OURS, true), Some((ClientState::Renewing, OURS)));
        assert_eq!(state(None, None, OURS, false), Some((ClientState::Rebinding, OURS)));
        assert_eq!(state(None, Some(OTHER), OURS, false), Some((ClientState::Rebinding, OURS)));
        assert_eq!(state(None, None, NONE, false), None);
        assert_eq!(state(Some(HEAD), None, NONE, false), None);
    }

    #[test]
    fn the_table() {
        use ClientState::*;
        let (ours, theirs) = (Selecting { server: HEAD }, Selecting { server: OTHER });
        // state, bound, right network, free guest, authoritative -> verdict
        let rows = [
            (ours, Some(OURS), true, false, false, RequestDecision::Ack),
            (ours, Some(OTHER), true, false, false, RequestDecision::Nak),
            (ours, None, true, true, false, RequestDecision::Nak),
            (theirs, Some(OURS), true, false, false, RequestDecision::Withdraw),
            (theirs, None, true, false, true, RequestDecision::Withdraw),
            (InitReboot, Some(OURS), true, false, false, RequestDecision::Ack),
            (InitReboot, Some(OTHER), true, false, false, RequestDecision::Nak),
            (InitReboot, None, true, true, false, RequestDecision::Silence),
            (InitReboot, None, true, true, true, RequestDecision::Nak),
            (InitReboot, None, false, false, false, RequestDecision::Nak),
            (Renewing, Some(OURS), true, false, false, RequestDecision::Ack),
            (Renewing, Some(OTHER), true, false, false, RequestDecision::Nak),
            (Renewing, None, true, true, false, RequestDecision::Adopt),
            (Renewing, None, true, false, false, RequestDecision::Nak),
            (Rebinding, Some(OURS), true, false, false, RequestDecision::Ack),
            (Rebinding, Some(OTHER), true, false, false, RequestDecision::Nak),
            (Rebinding, None, true, true, false, RequestDecision::Silence),
            (Rebinding, None, true, true, true, RequestDecision::Adopt),
            (Rebinding, None, true, false, true, RequestDecision::Nak),
            (Rebinding, None, false, false, false, RequestDecision::Nak),
        ];
        for (at, bound, right_network, free_guest, authoritative, verdict) in rows {
            let earlier_offers = false;
            let view = RequestView { ours: at != theirs, reaches: true, bound, right_network, free_guest, earlier_offers, authoritative };
            let taken = RequestView { earlier_offers: true, ..view };
            let adopted = at == ours && bound.is_none() && free_guest;
            assert_eq!(request(at, OURS, taken), if adopted { RequestDecision::Adopt } else { verdict }, "soon after a restart");
            assert_eq!(request(at, OURS, view), verdict, "{at:?} {view:?}");
            let far = RequestView { reaches: false, ..view };
            let heard = if verdict == RequestDecision::Nak { RequestDecision::Silence } else { verdict };
            assert_eq!(request(at, OURS, far), heard, "nobody would hear a NAK: {at:?} {view:?}");
        }
    }

    #[test]
    fn whose_word_may_do_what() {
        use Licence::*;
        use MessageType::*;
        let rows = [
            (Some(Discover), [Everything, Everything, Repeat]),
            (Some(Request), [Everything, Everything, Repeat]),
            (Some(Inform), [Everything, Everything, Repeat]),
            (None, [Everything, Everything, Nothing]),
            (Some(Release), [Everything, Nothing, Nothing]),
            (Some(Decline), [Everything, Nothing, Nothing]),
        ];
        for (kind, licences) in rows {
            assert_eq!([Word::Own, Word::Harmless, Word::Strange].map(|word| licence(kind, word)), licences, "{kind:?}");
        }
    }

    #[test]
    fn what_arp_is_believed() {
        let answer = ClaimView { settled: false, asked: true, proxy: false, numbered: false, known: false, free: false };
        let rows = [
            (ClaimView { settled: true, ..answer }, ClaimDecision::Nothing),
            (ClaimView { settled: true, proxy: true, numbered: true, ..answer }, ClaimDecision::Nothing),
            (ClaimView { asked: false, free: true, ..answer }, ClaimDecision::LookAgain),
            (ClaimView { asked: false, ..answer }, ClaimDecision::Nothing),
            (ClaimView { asked: false, numbered: true, known: true, ..answer }, ClaimDecision::Nothing),
            (ClaimView { proxy: true, known: true, numbered: true, ..answer }, ClaimDecision::Doubted),
            (ClaimView { proxy: true, free: true, ..answer }, ClaimDecision::Doubted),
            (ClaimView { numbered: true, ..answer }, ClaimDecision::Doubted),
            (ClaimView { numbered: true, known: true, ..answer }, ClaimDecision::Conflict),
            (ClaimView { free: true, ..answer }, ClaimDecision::Conflict),
            (answer, ClaimDecision::Conflict),
        ];
        for (view, what) in rows {
            assert_eq!(claim(view), what, "{view:?}");
        }
    }
}
